//! A client inside a container that is spoken to.
//!
//! What it answers while bkp still speaks is kept. Its input cannot end by accident: the watcher holds it, so a client never
//! takes a half statement for the last one.

use super::session::{Event, Session};
use crate::error::{Failure, Result};
use crate::exec::Conversation;
use crate::exec::heard::Heard;

pub struct ContainerConversation<'a> {
    session: Session<'a>,
    heard: Heard,
}

impl<'a> ContainerConversation<'a> {
    pub fn new(session: Session<'a>) -> Self {
        ContainerConversation { session, heard: Heard::default() }
    }

    fn ended(&mut self) -> Failure {
        loop {
            match self.session.receive(self.session.silence) {
                Ok(Event::Data(_)) => {}
                Ok(Event::Ended(told)) => {
                    return match self.session.finish(told) {
                        Ok(()) => self.session.failure("ended before it had answered"),
                        Err(failure) => failure,
                    };
                }
                Err(failure) => return failure,
            }
        }
    }
}

impl Conversation for ContainerConversation<'_> {
    fn say(&mut self, text: &str) -> Result<()> {
        self.session.check()?;
        match self.session.send(text.as_bytes())? {
            true => Ok(()),
            false => Err(self.ended()),
        }
    }

    fn hear(&mut self) -> Result<String> {
        loop {
            if let Some(line) = self.heard.line().map_err(|what| self.session.failure(what))? {
                return Ok(line);
            }
            match self.session.receive(self.session.silence)? {
                Event::Data(data) => self.heard.push(&data).map_err(|what| self.session.failure(what))?,
                Event::Ended(told) => {
                    self.session.finish(told)?;
                    return Err(self.session.failure("ended before it had answered"));
                }
            }
        }
    }

    fn close(mut self: Box<Self>) -> Result<()> {
        self.session.close_input()?;
        loop {
            if let Event::Ended(told) = self.session.receive(self.session.silence)? {
                return self.session.finish(told);
            }
        }
    }
}
