// The control plane of Kubernetes in one process: etcd, the API server, and the controllers of Deployments, ReplicaSets and
// StatefulSets, all of them the real ones. There is no kubelet: the test plays it.
//
// usage: control-plane DIRECTORY PORT; DIRECTORY has a `tokens.csv`, and a file `ready` once it is.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/statefulset"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func etcd(directory string) string {
	config := embed.NewConfig()
	config.Dir = filepath.Join(directory, "etcd")
	config.UnsafeNoFsync = true
	config.EnableGRPCGateway = false
	config.LogLevel = "error"
	address := *must(url.Parse("http://127.0.0.1:0"))
	all := []url.URL{address}
	config.ListenClientUrls, config.AdvertiseClientUrls = all, all
	config.ListenPeerUrls, config.AdvertisePeerUrls = all, all
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server := must(embed.StartEtcd(config))
	<-server.Server.ReadyNotify()
	return "http://" + server.Clients[0].Addr().String()
}

func key(path string) string {
	private := must(rsa.GenerateKey(rand.Reader, 2048))
	block := pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}
	must(0, os.WriteFile(path, pem.EncodeToMemory(&block), 0o600))
	return path
}

func main() {
	directory, port := os.Args[1], os.Args[2]
	tokens := filepath.Join(directory, "tokens.csv")
	serviceAccounts := key(filepath.Join(directory, "service-accounts.key"))
	command := apiserver.NewAPIServerCommand()
	command.SetArgs([]string{
		"--etcd-servers=" + etcd(directory), "--bind-address=127.0.0.1", "--secure-port=" + port,
		"--cert-dir=" + filepath.Join(directory, "certificates"), "--token-auth-file=" + tokens,
		"--service-account-issuer=https://kubernetes.local", "--service-account-key-file=" + serviceAccounts,
		"--service-account-signing-key-file=" + serviceAccounts, "--service-cluster-ip-range=10.0.0.0/24",
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
	})
	go func() {
		must(0, command.Execute())
		os.Exit(1)
	}()
	token, _, _ := strings.Cut(string(must(os.ReadFile(tokens))), ",")
	client := must(kubernetes.NewForConfig(&rest.Config{
		Host:            "https://127.0.0.1:" + port,
		BearerToken:     token,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		QPS:             1000,
		Burst:           1000,
	}))
	background := context.Background()
	for client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(background).Error() != nil {
		time.Sleep(100 * time.Millisecond)
	}
	all := informers.NewSharedInformerFactory(client, 0)
	apps, core := all.Apps().V1(), all.Core().V1()
	deployments := must(deployment.NewDeploymentController(background, apps.Deployments(), apps.ReplicaSets(), core.Pods(), client))
	replicaSets := replicaset.NewReplicaSetController(background, apps.ReplicaSets(), core.Pods(), client, replicaset.BurstReplicas)
	sets := statefulset.NewStatefulSetController(background, core.Pods(), apps.StatefulSets(), core.PersistentVolumeClaims(), apps.ControllerRevisions(), client)
	all.Start(background.Done())
	go deployments.Run(background, 2)
	go replicaSets.Run(background, 2)
	go sets.Run(background, 2)
	must(0, os.WriteFile(filepath.Join(directory, "ready"), nil, 0o600))
	select {}
}
