//! One link while it is up: commands are obeyed in their order, events go up as they come.

use quinn::{RecvStream, SendStream};
use sluice_messages::{Down, Event, LinkError, Refusal, SendData, Up, decode, encode, link::MESSAGE_BYTES_MAX};
use tokio::{
    sync::mpsc::{self, Receiver, Sender, error::TrySendError},
    time::MissedTickBehavior,
};

use super::{COUNTERS_PERIOD, Link, dial::Stream, table::Step};

/// Messages for control that wait to be written. A control so far behind is taken for dead: the link is closed, and the
/// next one repeats all states. Raising it costs memory while control hangs.
const OUTBOX_MAX: usize = 8192;

/// Commands read ahead of the one being applied. More would only move the queue from QUIC's flow control to here.
const INBOX_MAX: usize = 16;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// control closed the link: {0}
    #[error("control closed the link: {0}")]
    Read(String),
    /// the link broke: {0}
    #[error("the link broke: {0}")]
    Write(#[from] quinn::WriteError),
    /// {0}
    #[error(transparent)]
    Message(#[from] LinkError),
    /// control does not read what the node reports
    #[error("control does not read what the node reports")]
    Unread,
}

impl Link {
    /// Serves one link until it ends. Tells whether control gave a command that was obeyed, and why it ended.
    pub(super) async fn session(&mut self, stream: Stream) -> (bool, Fault) {
        let Stream { peer, connection, mut send, mut receive } = stream;
        tracing::info!(control = %peer, "link to control is up");
        let (outbox, outgoing) = mpsc::channel(OUTBOX_MAX);
        let (incoming, mut inbox) = mpsc::channel(INBOX_MAX);
        let mut obeyed = false;
        let fault = tokio::select! {
            fault = read(&mut receive, incoming) => fault,
            fault = write(&mut send, outgoing) => fault,
            fault = self.obey(&mut inbox, &outbox, &mut obeyed) => fault,
        };
        let fault = fault.err().unwrap_or_else(|| Fault::Read("end of stream".into()));
        connection.close(0u32.into(), fault.to_string().as_bytes());
        (obeyed, fault)
    }

    async fn obey(
        &mut self,
        inbox: &mut Receiver<Down>,
        outbox: &Sender<Vec<u8>>,
        obeyed: &mut bool,
    ) -> Result<(), Fault> {
        tell(outbox, &Up::Hello(self.hello()))?;
        let mut told = Told::default();
        let mut report = tokio::time::interval(COUNTERS_PERIOD);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reported = self.reported.clone();
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(command) => *obeyed |= self.command(command, outbox, &mut told)?,
                    // The reader has the reason.
                    None => std::future::pending().await,
                },
                () = reported.notified() => self.tell_events(outbox)?,
                _ = report.tick() => {
                    tell(outbox, &Up::Event(Event::Counters { counters: self.counters() }))?;
                }
            }
        }
    }

    /// Obeys one command, or refuses it.
    fn command(&mut self, command: Down, outbox: &Sender<Vec<u8>>, told: &mut Told) -> Result<bool, Fault> {
        match command {
            Down::Dump => {
                self.tell_events(outbox)?;
                let (epoch, sequence) = (self.table.epoch(), self.table.sequence());
                let entries = self.table.entries().cloned().collect();
                tell(outbox, &Up::State { epoch, sequence, entries, events: self.states.events() })?;
                told.states = true;
            }
            Down::Snapshot { epoch, sequence, entries } => {
                let steps = match self.table.snapshot(epoch, sequence, entries) {
                    Ok(steps) => steps,
                    Err(refusal) => return refuse(outbox, epoch, sequence, refusal),
                };
                tracing::info!(epoch, entries = self.table.len(), changes = steps.len(), "snapshot from control");
                self.apply(steps);
                tell(outbox, &Up::Applied { epoch, sequence })?;
                // A control that kept its own state does not ask for ours, but missed what happened meanwhile.
                if !std::mem::replace(&mut told.states, true) {
                    for event in self.states.events() {
                        tell(outbox, &Up::Event(event))?;
                    }
                }
            }
            Down::Delta { epoch, sequence, ops } => {
                let steps = match self.table.delta(epoch, sequence, ops) {
                    Ok(steps) => steps,
                    Err(refusal) => return refuse(outbox, epoch, sequence, refusal),
                };
                self.apply(steps);
                tell(outbox, &Up::Applied { epoch, sequence })?;
            }
            Down::Send { epoch, data } => match self.table.check_current(epoch) {
                Ok(()) => self.send(data),
                Err(refusal) => return refuse(outbox, epoch, self.table.sequence(), refusal),
            },
            Down::Ping { nonce } => tell(outbox, &Up::Pong { nonce })?,
        }
        Ok(true)
    }

    fn apply(&mut self, steps: Vec<Step>) {
        for step in steps {
            if let sluice_messages::Op::Remove(key) = &step.op {
                self.states.forget(key);
            }
            self.router.step(step);
        }
        self.router.ring();
    }

    /// Control's data goes to the slow threads that have the receivers; unknown ones are gone by now.
    fn send(&mut self, data: SendData) {
        let mut calls: Vec<_> = data.to.iter().filter_map(|transport| self.table.call(*transport)).collect();
        calls.sort_unstable();
        calls.dedup();
        self.router.send(&calls, data);
    }

    fn tell_events(&mut self, outbox: &Sender<Vec<u8>>) -> Result<(), Fault> {
        let mut result = Ok(());
        self.collect(&mut |event| {
            if result.is_ok() {
                result = tell(outbox, &Up::Event(event));
            }
        });
        result
    }
}

/// What control was told on this link.
#[derive(Default)]
struct Told {
    states: bool,
}

fn refuse(outbox: &Sender<Vec<u8>>, epoch: u64, sequence: u64, refusal: Refusal) -> Result<bool, Fault> {
    tracing::warn!(epoch, sequence, ?refusal, "command of control refused");
    tell(outbox, &Up::Refused { epoch, sequence, refusal })?;
    Ok(false)
}

fn tell(outbox: &Sender<Vec<u8>>, message: &Up) -> Result<(), Fault> {
    match outbox.try_send(encode(message)?) {
        // Closed: the writer has the reason and ends the session.
        Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
        Err(TrySendError::Full(_)) => Err(Fault::Unread),
    }
}

async fn write(send: &mut SendStream, mut outgoing: Receiver<Vec<u8>>) -> Result<(), Fault> {
    while let Some(bytes) = outgoing.recv().await {
        send.write_all(&bytes).await?;
    }
    Ok(())
}

async fn read(receive: &mut RecvStream, incoming: Sender<Down>) -> Result<(), Fault> {
    let broken = |error: quinn::ReadExactError| Fault::Read(reason(&error));
    loop {
        let mut length = [0; 4];
        receive.read_exact(&mut length).await.map_err(broken)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong(length).into());
        }
        let mut bytes = vec![0; length];
        receive.read_exact(&mut bytes).await.map_err(broken)?;
        if incoming.send(decode(&bytes)?).await.is_err() {
            return Ok(());
        }
    }
}

fn reason(error: &quinn::ReadExactError) -> String {
    match error {
        quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost)) => lost.to_string(),
        other => other.to_string(),
    }
}
