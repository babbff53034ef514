//! The alarm, by tokio-cron-scheduler.
//!
//! It is given one-shot jobs only: its repeated jobs keep the offset of a zone that they began with, and may stop for ever after
//! a delay. When to wake comes from `schedule`. An alarm may come up to a second early, or for nothing: then nothing is due,
//! and it is set again. Should one not come at all, the heartbeat of the loop finds what is due some seconds later.

use super::news::News;
use crate::error::{Failure, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// It waits no longer than this: clocks are set, and machines sleep.
const LONGEST: Duration = Duration::from_secs(600);

pub struct Timer {
    scheduler: JobScheduler,
    news: UnboundedSender<News>,
    armed: Option<Instant>,
    /// What was armed has come, perhaps early.
    rang: Arc<AtomicBool>,
}

impl Timer {
    pub async fn start(news: UnboundedSender<News>) -> Result<Self> {
        let scheduler = JobScheduler::new().await.map_err(broken)?;
        scheduler.start().await.map_err(broken)?;
        Ok(Timer { scheduler, news, armed: None, rang: Arc::default() })
    }

    /// Wakes the loop after so long, if it is not woken before.
    pub async fn arm(&mut self, wait: Duration) -> Result<()> {
        let wait = wait.min(LONGEST);
        let at = Instant::now() + wait;
        if self.rang.swap(false, Relaxed) {
            self.armed = None;
        }
        if self.armed.is_some_and(|armed| armed > Instant::now() && armed <= at) {
            return Ok(());
        }
        let (news, rang) = (self.news.clone(), self.rang.clone());
        let job = Job::new_one_shot_async(wait, move |_, _| {
            rang.store(true, Relaxed);
            let news = news.clone();
            Box::pin(async move { drop(news.send(News::Due)) })
        });
        self.scheduler.add(job.map_err(broken)?).await.map_err(broken)?;
        self.armed = Some(at);
        Ok(())
    }
}

fn broken(error: JobSchedulerError) -> Failure {
    Failure::failed("the timer cannot be set").because(error)
}
