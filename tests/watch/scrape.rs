//! Reads a scrape strictly, by the rules of OpenMetrics 1.0 and of Prometheus' text format 0.0.4: what is not allowed panics.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Default)]
pub struct Scrape {
    /// Kind and help by the name of the family.
    pub families: BTreeMap<String, (String, String)>,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
}

impl Scrape {
    pub fn openmetrics(text: &str) -> Scrape {
        let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("it does not end with # EOF: {text:?}"));
        assert!(!body.contains("# EOF"), "two ends");
        Scrape::read(body, true)
    }

    pub fn prometheus(text: &str) -> Scrape {
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
        Scrape::read(text, false)
    }

    fn read(text: &str, openmetrics: bool) -> Scrape {
        assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'), "{text:?}");
        let mut scrape = Scrape::default();
        let mut family = String::new();
        let mut help = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(!scrape.families.contains_key(name), "{name} comes twice");
                (family, help) = (name.to_owned(), text.to_owned());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, family, "the type follows the help");
                let known: &[&str] = if openmetrics {
                    &["gauge", "counter", "histogram", "info"]
                } else {
                    &["gauge", "counter", "histogram"]
                };
                assert!(known.contains(&kind), "{line}");
                scrape.families.insert(family.clone(), (kind.to_owned(), help.clone()));
            } else {
                let sample = sample(line);
                let kind = &scrape.families.get(&family).unwrap_or_else(|| panic!("no type before {line}")).0;
                belongs(&sample.name, &family, kind, openmetrics);
                assert!(!sample.value.is_nan(), "{line}");
                scrape.samples.push(sample);
            }
        }
        scrape.check();
        scrape
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            assert!(seen.insert((&sample.name, &sample.labels)), "twice: {sample:?}");
        }
        for (name, (kind, help)) in &self.families {
            assert!(!help.is_empty(), "{name} has no help");
            if kind == "histogram" {
                self.check_histogram(name);
            }
        }
    }

    /// Buckets count up, and the last one holds all.
    fn check_histogram(&self, name: &str) {
        let [bucket, count] = ["bucket", "count"].map(|part| format!("{name}_{part}"));
        for whole in self.all(&count) {
            let of_it =
                |sample: &&Sample| whole.labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value));
            let buckets: Vec<&Sample> = self.all(&bucket).filter(of_it).collect();
            assert!(buckets.is_sorted_by(|one, next| one.value <= next.value), "{buckets:?}");
            let last = buckets.last().unwrap();
            assert_eq!((last.labels["le"].as_str(), last.value), ("+Inf", whole.value));
        }
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The value of the one sample with these labels, among others.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| panic!("there is no {name} with {labels:?} in {:#?}", self.samples))
    }

    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let fits =
            |sample: &&Sample| labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value));
        self.all(name).find(fits).map(|sample| sample.value)
    }
}

fn belongs(name: &str, family: &str, kind: &str, openmetrics: bool) {
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} stands among {family}"));
    let allowed: &[&str] = match kind {
        "gauge" => &[""],
        "counter" if openmetrics => &["_total"],
        "counter" => &[""],
        "info" => &["_info"],
        _ => &["_bucket", "_sum", "_count"],
    };
    assert!(allowed.contains(&suffix), "{name} is no sample of the {kind} {family}");
    if kind == "gauge" {
        assert!(!family.ends_with("_total"), "a gauge that calls itself a counter: {family}");
    }
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap();
    let (name, rest) = line.split_at(end);
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(name.starts_with("bkp_") && name.chars().all(good), "{line}");
    let (labels, value) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside),
        None => (Labels::new(), rest),
    };
    let value = value.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    Sample { name: name.to_owned(), labels, value: value.parse().unwrap_or_else(|_| panic!("{line}")) }
}

fn labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        let (key, rest) = text.split_once("=\"").unwrap();
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{key}");
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    other => panic!("\\{other} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(key.to_owned(), value).is_none(), "{key} twice");
        text = &rest[end + 1..];
        match text.strip_prefix(',') {
            Some(more) => text = more,
            None => return (labels, text.strip_prefix('}').unwrap()),
        }
    }
}
