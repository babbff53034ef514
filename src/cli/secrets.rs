//! `bkp secrets`: the passwords that are rotated, as the configuration and the journal know them.

use super::Ran;
use super::environment::Environment;
use super::format::{age, instant};
use super::output::{plain, table};
use crate::daemon::host;
use crate::job::rotate::rules;
use crate::policy::duration_text;
use crate::schedule::Schedule;

#[derive(clap::Args, Debug)]
#[command(after_help = "\
Only what the configuration and the journal of this host say. Whether what is published lets in is asked by:
bkp rotate NAME --dry-run

Examples:
  bkp secrets
  bkp secrets --json")]
pub struct Arguments {}

impl Arguments {
    pub fn run(self, env: &Environment) -> Ran {
        let configuration = env.configuration()?;
        let state = env.journal()?.state().unwrap_or_default();
        let schedules = Schedule::of_rotations(configuration, &host(), &state);
        let since = |at: jiff::Timestamp| age(env.now.as_second() - at.as_second());
        let (mut documents, mut rows) = (Vec::new(), Vec::new());
        for (policy, rotation) in configuration.rotations() {
            let known = state.rotations.get(&rotation.name);
            let rotated = known.and_then(|known| known.rotated.as_ref());
            let is_open = known.and_then(|known| known.last.as_ref()).is_some_and(|(_, last)| !last.is_end());
            let schedule = schedules.iter().find(|schedule| schedule.policy == rotation.name);
            let next = schedule.and_then(|schedule| schedule.upcoming(env.now).next()).map(|next| next.due);
            let due = rules::due(rotation, &state);
            let is_overdue = due.is_some_and(|at| at.is_none_or(|at| at <= env.now));
            let consumers: Vec<&str> = rotation.consumers.iter().map(|consumer| consumer.name.as_str()).collect();
            documents.push(serde_json::json!({
                "rotation": rotation.name, "policy": policy.name, "source": rotation.target.name(), "account": rotation.account,
                "published": format!("ref+vault://{}", rotation.published),
                "rotated": rotated.map(|(at, _)| at), "fingerprint": rotated.and_then(|(_, fact)| fact.to.clone()),
                "consumers": consumers, "every": rotation.every.map(duration_text), "due": due.flatten(), "next": next,
                "overdue": is_overdue, "under_way": is_open,
            }));
            rows.push(vec![
                rotation.name.clone(),
                plain(&rotation.account),
                rotation.target.name().to_owned(),
                policy.name.clone(),
                consumers.join(", "),
                rotated.map_or_else(|| "never".to_owned(), |(at, _)| since(*at)),
                match due {
                    None => "-".to_owned(),
                    Some(Some(at)) if !is_overdue => at.strftime("%Y-%m-%d").to_string(),
                    Some(_) => "now".to_owned(),
                },
                next.map_or_else(|| "by hand".to_owned(), |at| instant(at, &policy.timezone)),
                if is_open { "not at its end: bkp rotate status" } else { "-" }.to_owned(),
            ]);
        }
        env.output.answer(&serde_json::json!({ "secrets": documents }), || {
            let titles = ["NAME", "ACCOUNT", "SOURCE", "OWNER", "CONSUMERS", "ROTATED", "DUE", "NEXT", "NOTE"];
            if rows.is_empty() {
                "no password is rotated: see docs/ROTATION.md".to_owned()
            } else {
                table(&titles, rows)
            }
        })?;
        Ok(None)
    }
}
