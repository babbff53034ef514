//! Points whose content is not what they say of their source.

use super::support::host::Host;
use bkp::engine::{Dumped, Engine, LoadRun, Loaded, Origin, Settings, Sink, Target};
use bkp::error::Result;
use bkp::event::{Cancel, Context, Meter, Silent};
use bkp::exec::docker::Image;
use bkp::job::Places;
use bkp::job::backup::Backup;
use bkp::repo::Repository;
use bkp::repo::write::Options;
use bkp::repo::writer::Writer;
use bkp::store;

/// An engine that says something else of its source than what it dumped.
struct Untrue<'a> {
    inner: Box<dyn Engine>,
    change: &'a (dyn Fn(&mut Dumped) + Sync),
    image: Option<Image>,
}

impl Engine for Untrue<'_> {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn image(&self) -> Result<Option<Image>> {
        self.image.clone().map_or_else(|| self.inner.image(), |image| Ok(Some(image)))
    }

    fn preflight(&self) -> Result<()> {
        self.inner.preflight()
    }

    fn dump(&self, sink: &mut dyn Sink, run: &bkp::engine::DumpRun<'_>) -> Result<Dumped> {
        let mut dumped = self.inner.dump(sink, run)?;
        (self.change)(&mut dumped);
        Ok(dumped)
    }

    fn load(&self, origin: &dyn Origin, target: &Target, run: &LoadRun<'_>) -> Result<Loaded> {
        self.inner.load(origin, target, run)
    }
}

/// Makes a point of `source` as the host does, and lets `change` lie about it.
pub fn point(host: &Host, source: &str, settings: &Settings, change: impl Fn(&mut Dumped) + Sync) {
    made(host, source, settings, &change, None);
}

/// A point whose server seems to have been in a container of this image.
pub fn point_of_image(host: &Host, source: &str, settings: &Settings, image: Image) {
    made(host, source, settings, &|_| {}, Some(image));
}

fn made(host: &Host, source: &str, settings: &Settings, change: &(dyn Fn(&mut Dumped) + Sync), image: Option<Image>) {
    let store = store::open(&store::Settings::new(host.url.parse().unwrap())).unwrap();
    let repository = Repository::open(store).unwrap();
    let (state, cache) = (host.path("state"), host.path("cache"));
    let writer = Writer::load(&state, repository.id()).unwrap().unwrap();
    let places = Places::new(&state, &cache, &repository);
    let engine = Untrue { inner: bkp::engine::build(settings), change, image };
    let backup = Backup {
        repository: &repository,
        writer: &writer,
        places: &places,
        source,
        engine: &engine,
        options: Options::default(),
        reread: false,
        purpose: None,
        together: None,
        credentials: Vec::new(),
    };
    host.next_second();
    let (cancel, meter) = (Cancel::default(), Meter::default());
    let context = Context { events: &Silent, meter: &meter, cancel: &cancel };
    backup.run(context, jiff::Timestamp::now()).unwrap();
}

/// A dump that lost what `lose` takes away from the source, or that changed it: the point holds what is there afterwards, and
/// says of its source what was there before.
pub fn lossy(host: &Host, source: &str, settings: &Settings, lose: impl FnOnce()) {
    let before = std::sync::Mutex::new(None);
    point(host, source, settings, |dumped| *before.lock().unwrap() = Some(dumped.fingerprint.clone()));
    lose();
    let before = before.into_inner().unwrap().unwrap();
    point(host, source, settings, |dumped| dumped.fingerprint = before.clone());
}
