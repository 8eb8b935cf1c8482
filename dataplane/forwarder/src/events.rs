//! Events that wait for the caller.

use std::collections::VecDeque;

use sluice_messages::Event;

use crate::counters::Counters;

pub(crate) struct Events {
    queue: VecDeque<Event>,
    max: usize,
}

impl Events {
    pub(crate) fn new(max: usize) -> Events {
        Events { queue: VecDeque::with_capacity(max), max }
    }

    pub(crate) fn push(&mut self, event: Event, counters: &mut Counters) {
        if self.queue.len() == self.max {
            counters.drop_events += 1;
        } else {
            self.queue.push_back(event);
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
