// Reads manifests as the API server would: what is no field of its kind, or stands twice, is an error.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	options := json.SerializerOptions{Yaml: true, Strict: true}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, options)
	failed := false
	for _, name := range os.Args[1:] {
		file, err := os.Open(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(file))
		for {
			document, err := documents.Read()
			if err == io.EOF {
				break
			}
			if err == nil {
				object, kind, wrong := decoder.Decode(document, nil, nil)
				err = wrong
				if object != nil && wrong == nil {
					fmt.Println(kind.Kind)
				}
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
				failed = true
				break
			}
		}
		file.Close()
	}
	if failed {
		os.Exit(1)
	}
}
