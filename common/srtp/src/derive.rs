//! Session keys from master keys: RFC 3711 section 4.3, RFC 6188 section 2 (AES-256), RFC 7714 section 11 (12-byte salts).

use aes::{Aes128, Aes256};
use arrayvec::ArrayVec;
use ctr::{
    Ctr128BE,
    cipher::{KeyIvInit, StreamCipher},
};

use crate::{Error, MasterKey};

/// Which keys: RTP's labels begin at 0, RTCP's at 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Usage {
    Rtp,
    Rtcp,
}

pub(crate) const AUTHENTICATION_KEY_BYTES: usize = 20;

pub(crate) struct SessionKeys {
    pub(crate) encryption: ArrayVec<u8, 32>,
    /// Unused by the AEAD profiles.
    pub(crate) authentication: [u8; AUTHENTICATION_KEY_BYTES],
    /// The rightmost bytes are zero where the profile's salt is shorter.
    pub(crate) salt: [u8; 14],
}

pub(crate) fn derive(master: &MasterKey, usage: Usage) -> Result<SessionKeys, Error> {
    let first_label = match usage {
        Usage::Rtp => 0,
        Usage::Rtcp => 3,
    };
    let mut encryption = [0; 32];
    let encryption = encryption.get_mut(..master.key.len()).ok_or(Error::KeyLength)?;
    let mut authentication = [0; AUTHENTICATION_KEY_BYTES];
    let mut salt = [0; 14];
    expand(master, first_label, encryption)?;
    expand(master, first_label + 1, &mut authentication)?;
    expand(master, first_label + 2, salt.get_mut(..master.salt.len()).ok_or(Error::KeyLength)?)?;
    Ok(SessionKeys { encryption: (&*encryption).try_into().map_err(|_| Error::KeyLength)?, authentication, salt })
}

/// AES in counter mode as the pseudo-random function. The key derivation rate is zero, so the index is, too.
fn expand(master: &MasterKey, label: u8, out: &mut [u8]) -> Result<(), Error> {
    let mut iv = [0; 16];
    iv.iter_mut().zip(&master.salt).for_each(|(byte, salt)| *byte = *salt);
    iv[7] ^= label;
    match master.key.len() {
        16 => Ctr128BE::<Aes128>::new_from_slices(&master.key, &iv).map_err(|_| Error::KeyLength)?.apply_keystream(out),
        _ => Ctr128BE::<Aes256>::new_from_slices(&master.key, &iv).map_err(|_| Error::KeyLength)?.apply_keystream(out),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    fn check(profile: Profile, key: &str, salt: &str, usage: Usage, expected: [&str; 3]) {
        let master = MasterKey::new(profile, &hex::decode(key).unwrap(), &hex::decode(salt).unwrap()).unwrap();
        let keys = derive(&master, usage).unwrap();
        let derived = [&keys.encryption[..], &keys.authentication, &keys.salt[..profile.salt_len()]];
        for (derived, expected) in derived.into_iter().zip(expected) {
            assert_eq!(hex::encode(derived)[..expected.len()], *expected);
        }
    }

    #[test]
    fn rfc_3711_b3() {
        check(
            Profile::Aes128CmSha1_80,
            "e1f97a0d3e018be0d64fa32c06de4139",
            "0ec675ad498afeebb6960b3aabe6",
            Usage::Rtp,
            [
                "c61e7a93744f39ee10734afe3ff7a087",
                "cebe321f6ff7716b6fd4ab49af256a156d38baa4",
                "30cbbc08863d8c85d49db34a9ae1",
            ],
        );
    }

    #[test]
    fn rfc_6188_7_2() {
        // Its salt has 14 bytes, as for AES-CM: give the key derivation function that directly.
        let master = MasterKey {
            key: hex::decode("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6").unwrap()[..]
                .try_into()
                .unwrap(),
            salt: hex::decode("3b04803de51ee7c96423ab5b78d2").unwrap()[..].try_into().unwrap(),
        };
        let keys = derive(&master, Usage::Rtp).unwrap();
        assert_eq!(hex::encode(&keys.encryption), "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4");
        assert_eq!(hex::encode(keys.salt), "fa31791685ca444a9e07c6c64e93");
        assert_eq!(hex::encode(keys.authentication), "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05");
    }
}
