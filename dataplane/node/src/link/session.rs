//! One link while it is up: commands are obeyed in their order, events go up as they come.

use std::{collections::VecDeque, time::Duration};

use quinn::{RecvStream, SendStream};
use sluice_messages::{Down, LinkError, Refusal, Up, decode, encode, link::MESSAGE_BYTES_MAX};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{Instant, MissedTickBehavior},
};

use super::{COUNTERS_PERIOD, Link, dial::Stream, table::Step};

/// Live events that wait to be written. A control so far behind is taken for dead: the link is closed, and the next one
/// repeats all states. Raising it costs memory while control hangs.
const EVENTS_WAITING_MAX: usize = 65_536;

/// Commands are taken while fewer messages than this wait: a control that asks faster than it reads waits for itself.
const ANSWERS_WAITING_MAX: usize = 64;

/// Encoded messages between the session and the writer; the rest waits unencoded.
const WRITER_MAX: usize = 16;

/// Commands read ahead of the one being applied. More would only move the queue from QUIC's flow control to here.
const INBOX_MAX: usize = 16;

/// Signs of life of control that may be missed in a row before another control is dialled, and the shortest time that this
/// takes. Raising them rides out longer pauses of control, lowering them finds another control sooner.
const PERIODS_MISSED: u32 = 10;
const SILENCE_MIN: Duration = Duration::from_secs(1);

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
    /// control says nothing any more
    #[error("control says nothing any more")]
    Silent,
    /// control does not read what the node reports
    #[error("control does not read what the node reports")]
    Unread,
}

impl Link {
    /// Serves one link until it ends. Tells whether control gave a command that was obeyed, and why it ended.
    pub(super) async fn session(&mut self, stream: Stream) -> (bool, Fault) {
        let Stream { peer, connection, mut send, mut receive } = stream;
        tracing::info!(control = %peer, "link to control is up");
        let (writer, outgoing) = mpsc::channel(WRITER_MAX);
        let (incoming, mut inbox) = mpsc::channel(INBOX_MAX);
        let mut obeyed = false;
        let fault = tokio::select! {
            fault = read(&mut receive, incoming) => fault,
            fault = write(&mut send, outgoing) => fault,
            fault = self.obey(&mut inbox, &writer, &mut obeyed) => fault,
        };
        let fault = fault.err().unwrap_or_else(|| Fault::Read("end of stream".into()));
        connection.close(0u32.into(), fault.to_string().as_bytes());
        (obeyed, fault)
    }

    async fn obey(
        &mut self,
        inbox: &mut Receiver<Down>,
        writer: &Sender<Vec<u8>>,
        obeyed: &mut bool,
    ) -> Result<(), Fault> {
        let mut outbox = Outbox::default();
        outbox.tell(Up::Hello(self.hello()));
        let mut report = tokio::time::interval(COUNTERS_PERIOD);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reported = self.reported.clone();
        let silence = tokio::time::sleep(SILENCE_MIN);
        tokio::pin!(silence);
        loop {
            tokio::select! {
                () = &mut silence, if outbox.period.is_some() => return Err(Fault::Silent),
                command = inbox.recv(), if outbox.waiting.len() < ANSWERS_WAITING_MAX => match command {
                    Some(command) => {
                        *obeyed |= self.command(command, &mut outbox);
                        let patience = outbox.period.map_or(SILENCE_MIN, |period| SILENCE_MIN.max(period * PERIODS_MISSED));
                        silence.as_mut().reset(Instant::now() + patience);
                    }
                    // The reader has the reason.
                    None => std::future::pending().await,
                },
                place = writer.reserve(), if !outbox.waiting.is_empty() => {
                    // Without a writer there is its reason.
                    let Ok(place) = place else { std::future::pending().await };
                    if let Some(message) = outbox.waiting.pop_front() {
                        place.send(encode(&message)?);
                    }
                }
                () = reported.notified() => {
                    self.tell_events(&mut outbox);
                    if outbox.waiting.len() > EVENTS_WAITING_MAX + self.states.len() {
                        return Err(Fault::Unread);
                    }
                }
                _ = report.tick() => self.counters().for_each(|event| outbox.tell(Up::Event(event))),
            }
        }
    }

    /// Obeys one command, or refuses it: then false.
    fn command(&mut self, command: Down, outbox: &mut Outbox) -> bool {
        match command {
            Down::Dump => {
                self.tell_events(outbox);
                let (epoch, sequence) = (self.table.epoch(), self.table.sequence());
                let entries = self.table.entries().cloned().collect();
                outbox.tell(Up::State { epoch, sequence, entries, events: self.states.events() });
                outbox.told_states = true;
            }
            Down::Snapshot { epoch, sequence, entries } => {
                let steps = match self.table.snapshot(epoch, sequence, entries) {
                    Ok(steps) => steps,
                    Err(refusal) => return outbox.refuse(epoch, sequence, refusal),
                };
                tracing::info!(epoch, entries = self.table.len(), changes = steps.len(), "snapshot from control");
                self.apply(steps);
                outbox.tell(Up::Applied { epoch, sequence });
                // A control that kept its own state does not ask for ours, but missed what happened meanwhile.
                if !std::mem::replace(&mut outbox.told_states, true) {
                    self.states.events().into_iter().for_each(|event| outbox.tell(Up::Event(event)));
                }
            }
            Down::Delta { epoch, sequence, ops } => {
                let steps = match self.table.delta(epoch, sequence, ops) {
                    Ok(steps) => steps,
                    Err(refusal) => return outbox.refuse(epoch, sequence, refusal),
                };
                self.apply(steps);
                outbox.tell(Up::Applied { epoch, sequence });
            }
            Down::Send { epoch, data } => match self.table.check_current(epoch) {
                // Receivers that are not known are gone by now.
                Ok(()) => self.router.send(data),
                Err(refusal) => return outbox.refuse(epoch, self.table.sequence(), refusal),
            },
            Down::Ping { nonce, period_ms } => {
                outbox.period = Some(Duration::from_millis(period_ms.into()));
                outbox.tell(Up::Pong { nonce });
            }
        }
        true
    }

    fn apply(&mut self, steps: Vec<Step>) {
        for step in &steps {
            if let sluice_messages::Op::Remove(key) = &step.op {
                self.states.forget(key);
            }
        }
        self.router.apply(steps);
    }

    fn tell_events(&mut self, outbox: &mut Outbox) {
        self.collect(&mut |event| outbox.tell(Up::Event(event)));
    }
}

/// What waits for control on this link, in its order.
#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Up>,
    /// Control knows the states from before this link.
    told_states: bool,
    /// How often control says that it lives, once it has.
    period: Option<Duration>,
}

impl Outbox {
    fn tell(&mut self, message: Up) {
        self.waiting.push_back(message);
    }

    fn refuse(&mut self, epoch: u64, sequence: u64, refusal: Refusal) -> bool {
        tracing::warn!(epoch, sequence, ?refusal, "command of control refused");
        self.tell(Up::Refused { epoch, sequence, refusal });
        false
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
