//! Both negotiations against descriptions of real clients, and parsers against garbage.

mod descriptions;
mod independent;
mod publisher;
mod subscriber;
mod support;
