//! A connection that is asked questions: one `psql` that is kept open.
//!
//! Rows come back as JSON, one in a line, so that nothing in a name or value can be taken for something else; after each
//! question `psql` is told to answer a mark, which shows that all of the answer was heard. An error of the server ends it.

use super::client::{Clients, explained};
use crate::error::{Failure, Result};
use crate::event::Cancel;
use crate::exec::Conversation;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// What could end or delay a long session, and what decides how values look.
const SETTINGS: &str = "\
set client_min_messages = error; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;
set standard_conforming_strings = on; set search_path = pg_catalog; set row_security = off;
set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set extra_float_digits = 3;
set bytea_output = 'hex'; set lc_monetary = 'C'; set xmlbinary = 'base64'; set default_transaction_read_only = off;
set quote_all_identifiers = off;
select set_config(name, '0', false) from pg_settings where name in ('idle_session_timeout', 'transaction_timeout')";

/// Dropped, it lets `psql` go in order, unless that is still at work.
pub struct Session<'a> {
    /// Absent once it is closed.
    conversation: Option<Box<dyn Conversation + 'a>>,
    user: String,
    asked: u64,
    /// An answer is not yet heard to its end.
    waits: bool,
}

impl<'a> Session<'a> {
    pub fn open(clients: &Clients, database: &str, cancel: &'a Cancel) -> Result<Self> {
        let mut command = clients.command("psql", database);
        command.arguments.extend(["-XAtq", "-v", "ON_ERROR_STOP=1"].map(Into::into));
        command.environment.push(("PGCLIENTENCODING".into(), "UTF8".into()));
        let user = clients.user().to_owned();
        let conversation = clients.exec().converse(&command, cancel)?;
        let mut session = Session { conversation: Some(conversation), user, asked: 0, waits: false };
        session.run(SETTINGS)?;
        Ok(session)
    }

    /// Statements wait this long for a lock.
    pub fn wait_for_locks(&mut self, limit: Duration) -> Result<()> {
        self.run(&format!("set lock_timeout = {}", limit.as_millis()))
    }

    /// Runs statements whose answers do not matter.
    pub fn run(&mut self, statements: &str) -> Result<()> {
        self.say(statements)?;
        self.heard()
    }

    /// Begins statements without waiting for their end, which [`heard`](Self::heard) does.
    pub fn say(&mut self, statements: &str) -> Result<()> {
        self.asked += 1;
        self.waits = true;
        let text = format!("{statements};\nselect 'bkp-{}';\n", self.asked);
        let said = self.psql()?.say(&text);
        said.map_err(|failure| self.explain(failure))
    }

    pub fn heard(&mut self) -> Result<()> {
        while self.hear()?.is_some() {}
        Ok(())
    }

    /// The rows of a query.
    pub fn rows<T: DeserializeOwned>(&mut self, query: &str) -> Result<Vec<T>> {
        self.say(&format!("select row_to_json(q) from ({query}) as q"))?;
        let mut rows = Vec::new();
        while let Some(line) = self.hear()? {
            let row = serde_json::from_str(&line)
                .map_err(|error| Failure::failed("psql gave an answer that was not asked for").because(error))?;
            rows.push(row);
        }
        Ok(rows)
    }

    /// The one row of a query.
    pub fn row(&mut self, query: &str) -> Result<Value> {
        let mut rows = self.rows(query)?;
        rows.pop().ok_or_else(|| Failure::failed("PostgreSQL gave no answer to a question that has one"))
    }

    pub fn close(mut self) -> Result<()> {
        self.conversation.take().map_or(Ok(()), Conversation::close)
    }

    fn psql(&mut self) -> Result<&mut (dyn Conversation + 'a)> {
        self.conversation.as_deref_mut().ok_or_else(|| Failure::failed("psql is closed"))
    }

    /// The next line of the answer; `None` at its end.
    fn hear(&mut self) -> Result<Option<String>> {
        let heard = self.psql()?.hear();
        let line = heard.map_err(|failure| self.explain(failure))?;
        self.waits = line != format!("bkp-{}", self.asked);
        Ok(self.waits.then_some(line))
    }

    fn explain(&self, failure: Failure) -> Failure {
        explained(failure, &self.user)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(conversation) = self.conversation.take()
            && !self.waits
        {
            let _ = conversation.close();
        }
    }
}
