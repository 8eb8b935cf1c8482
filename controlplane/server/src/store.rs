//! What outlives a control process: its epoch and the rooms that were made through the API.
//!
//! Live state (participants, tracks, subscriptions) is not here: it is read back from the nodes, see
//! [`messages::Note`](sluice_messages::Note).

use std::{io, path::Path};

use livekit_protocol::CreateRoomRequest;
use prost::Message;

/// The store cannot be used. Not the caller's fault; worth a retry only where the disk recovers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// the database cannot be opened, read or written
    #[error("the store cannot be used: {0}")]
    Database(String),
    /// what was stored is of another form
    #[error("the store holds something unreadable under {0:?}")]
    Unreadable(String),
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> StoreError {
        // A folder locked by another process comes as an I/O error whose text is a debug dump.
        match error {
            sled::Error::Io(error) if error.kind() == io::ErrorKind::Other || error.raw_os_error() == Some(11) => {
                StoreError::Database("its folder is in use by another process".into())
            }
            other => StoreError::Database(other.to_string()),
        }
    }
}

/// Keeps little and rarely: nothing here is on the way of a packet or of a client's message.
pub trait Store: Send {
    /// Raises the epoch above both its last value and `at_least`, makes that durable and returns it.
    fn next_epoch(&mut self, at_least: u64) -> Result<u64, StoreError>;
    /// Keeps a room made through the API.
    fn put_room(&mut self, room: &CreateRoomRequest) -> Result<(), StoreError>;
    /// Forgets a room.
    fn remove_room(&mut self, name: &str) -> Result<(), StoreError>;
    /// All rooms made through the API.
    fn rooms(&self) -> Result<Vec<CreateRoomRequest>, StoreError>;
}

/// The embedded store: [sled](https://docs.rs/sled) in a folder.
pub struct Sled {
    database: sled::Db,
}

const EPOCH: &str = "epoch";
const ROOM_PREFIX: &str = "room/";

impl Sled {
    /// Opens or makes the database in `folder`, which one process at a time may use.
    pub fn open(folder: &Path) -> Result<Sled, StoreError> {
        Ok(Sled { database: sled::open(folder)? })
    }
}

impl Store for Sled {
    fn next_epoch(&mut self, at_least: u64) -> Result<u64, StoreError> {
        let stored = match self.database.get(EPOCH)? {
            Some(bytes) => {
                u64::from_be_bytes(bytes.as_ref().try_into().map_err(|_| StoreError::Unreadable(EPOCH.into()))?)
            }
            None => 0,
        };
        let epoch = stored.max(at_least) + 1;
        self.database.insert(EPOCH, &epoch.to_be_bytes())?;
        self.database.flush()?;
        Ok(epoch)
    }

    fn put_room(&mut self, room: &CreateRoomRequest) -> Result<(), StoreError> {
        self.database.insert(format!("{ROOM_PREFIX}{}", room.name), room.encode_to_vec())?;
        self.database.flush()?;
        Ok(())
    }

    fn remove_room(&mut self, name: &str) -> Result<(), StoreError> {
        self.database.remove(format!("{ROOM_PREFIX}{name}"))?;
        self.database.flush()?;
        Ok(())
    }

    fn rooms(&self) -> Result<Vec<CreateRoomRequest>, StoreError> {
        let mut rooms = Vec::new();
        for row in self.database.scan_prefix(ROOM_PREFIX) {
            let (key, bytes) = row?;
            let unreadable = |_| StoreError::Unreadable(String::from_utf8_lossy(&key).into_owned());
            rooms.push(CreateRoomRequest::decode(bytes.as_ref()).map_err(unreadable)?);
        }
        Ok(rooms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_and_rooms_survive_a_restart() {
        let folder = std::env::temp_dir().join(format!("sluice-store-{}", std::process::id()));
        let room = CreateRoomRequest { name: "daily".into(), max_participants: 7, ..Default::default() };
        {
            let mut store = Sled::open(&folder).unwrap();
            assert_eq!(store.next_epoch(0).unwrap(), 1);
            assert_eq!(store.next_epoch(40).unwrap(), 41);
            store.put_room(&room).unwrap();
        }
        {
            let mut store = Sled::open(&folder).unwrap();
            assert_eq!(store.next_epoch(0).unwrap(), 42);
            assert_eq!(store.rooms().unwrap(), vec![room]);
            store.remove_room("daily").unwrap();
            assert!(store.rooms().unwrap().is_empty());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
