//! eBPF without a compiler or a loader: an assembler for the few instructions that the programs here are made of
//! (`xdp/program.rs`, `steer.rs`), and the `bpf(2)` calls that make maps, load programs and attach them.
//!
//! Instructions are those of RFC 9669; numbers of commands, types and helpers are those of `linux/bpf.h`. Everything made
//! here lives as long as its file descriptor, so it ends with the process however that ends.

use std::{
    ffi::c_long,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// A register. 0 holds results, 1 to 5 arguments, 6 to 9 survive calls, 10 points behind the stack.
pub type Register = u8;

/// Bytes that a load or store moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// A place in a program that jumps lead to. Made by [`Assembler::label`], given its place by [`Assembler::place`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// Condition of a jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Equal = 0x10,
    /// Unsigned.
    Greater = 0x20,
    /// Any of these bits is set.
    Bits = 0x40,
    NotEqual = 0x50,
}

/// Kernel functions that programs call (`enum bpf_func_id`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Helper {
    MapLookup = 1,
    RedirectMap = 51,
    LoadBytesRelative = 68,
    SelectReuseport = 82,
}

const CLASS_LOAD_IMMEDIATE: u8 = 0x00;
const CLASS_LOAD: u8 = 0x01;
const CLASS_STORE_IMMEDIATE: u8 = 0x02;
const CLASS_STORE: u8 = 0x03;
const CLASS_JUMP: u8 = 0x05;
const CLASS_JUMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const MODE_MEMORY: u8 = 0x60;
const SOURCE_REGISTER: u8 = 0x08;
const ADD: u8 = 0x00;
const MOVE: u8 = 0xb0;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
/// Source register of a 64-bit immediate that is a map's descriptor.
const PSEUDO_MAP_FD: u8 = 1;

/// Writes a program. Jumps go forward only, so every program ends.
#[derive(Default)]
pub struct Assembler {
    code: Vec<u64>,
    /// Where each label is.
    places: Vec<Option<usize>>,
    /// Jumps and the labels they lead to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub fn new() -> Assembler {
        Assembler::default()
    }

    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// What comes next is where the label is.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// `to = *(from + offset)`
    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.emit(CLASS_LOAD | MODE_MEMORY | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = from`
    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.emit(CLASS_STORE | MODE_MEMORY | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = value`
    pub fn store_value(&mut self, width: Width, to: Register, offset: i16, value: i32) {
        self.emit(CLASS_STORE_IMMEDIATE | MODE_MEMORY | width as u8, to, 0, offset, value);
    }

    /// `to = from`
    pub fn copy(&mut self, to: Register, from: Register) {
        self.emit(CLASS_ALU64 | MOVE | SOURCE_REGISTER, to, from, 0, 0);
    }

    /// `to = value`
    pub fn set(&mut self, to: Register, value: i32) {
        self.emit(CLASS_ALU64 | MOVE, to, 0, 0, value);
    }

    /// `to += value`
    pub fn add(&mut self, to: Register, value: i32) {
        self.emit(CLASS_ALU64 | ADD, to, 0, 0, value);
    }

    /// `to = map`
    pub fn map(&mut self, to: Register, map: BorrowedFd<'_>) {
        let double = CLASS_LOAD_IMMEDIATE | Width::Double as u8;
        self.emit(double, to, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.emit(0, 0, 0, 0, 0);
    }

    /// Jumps if the low 32 bits of `left` compare like this with `right`.
    pub fn jump32(&mut self, when: When, left: Register, right: u32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(CLASS_JUMP32 | when as u8, left, 0, 0, right as i32);
    }

    /// Jumps if `left` compares like this with `right`, all 64 bits.
    pub fn jump(&mut self, when: When, left: Register, right: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(CLASS_JUMP | when as u8 | SOURCE_REGISTER, left, right, 0, 0);
    }

    /// Jumps if `left` is 0, all 64 bits: what a lookup that found nothing returns.
    pub fn jump_if_none(&mut self, left: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(CLASS_JUMP | When::Equal as u8, left, 0, 0, 0);
    }

    /// Jumps.
    pub fn go(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(CLASS_JUMP, 0, 0, 0, 0);
    }

    /// Calls the kernel; clobbers registers 0 to 5.
    pub fn call(&mut self, helper: Helper) {
        self.emit(CLASS_JUMP | CALL, 0, 0, 0, helper as i32);
    }

    /// Ends with what is in register 0.
    pub fn exit(&mut self) {
        self.emit(CLASS_JUMP | EXIT, 0, 0, 0, 0);
    }

    /// The instructions. Panics if a label has no place or a jump goes back: that is a mistake in the program's text.
    pub fn finish(mut self) -> Vec<u64> {
        for &(jump, label) in &self.jumps {
            let place = self.places[label.0].expect("every label has a place");
            assert!(place > jump, "jumps go forward");
            let distance = i16::try_from(place - jump - 1).expect("programs are short");
            self.code[jump] |= u64::from(distance as u16) << 16;
        }
        self.code
    }

    /// One instruction as the kernel of a machine of either byte order reads it.
    fn emit(&mut self, opcode: u8, to: Register, from: Register, offset: i16, value: i32) {
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        let mut bytes = [opcode, registers, 0, 0, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
        bytes[4..8].copy_from_slice(&value.to_ne_bytes());
        self.code.push(u64::from_ne_bytes(bytes));
    }
}

/// `enum bpf_map_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapType {
    LruHash = 9,
    XskMap = 17,
    ReuseportSockets = 20,
}

/// `enum bpf_prog_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgramType {
    Classifier = 3,
    Xdp = 6,
    SkReuseport = 21,
}

/// `enum bpf_attach_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachType {
    Xdp = 37,
    TcxIngress = 46,
}

/// A map whose keys and values are plain numbers.
pub struct Map {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

impl Map {
    pub fn new(kind: MapType, key_bytes: usize, value_bytes: usize, entries: usize) -> io::Result<Map> {
        #[repr(C)]
        struct Create {
            kind: u32,
            key_bytes: u32,
            value_bytes: u32,
            entries: u32,
            flags: u32,
        }
        let mut create = Create {
            kind: kind as u32,
            key_bytes: key_bytes as u32,
            value_bytes: value_bytes as u32,
            entries: entries as u32,
            flags: 0,
        };
        // SAFETY: needed to make a map; the attributes name no memory.
        let fd = unsafe { bpf(Command::MapCreate, &mut create)? };
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Map { fd: unsafe { OwnedFd::from_raw_fd(fd) }, key_bytes, value_bytes })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// Sets what the key leads to.
    pub fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key_bytes, self.value_bytes), "as the map was made");
        // SAFETY: key and value are as long as the kernel takes them to be (checked above), and it only reads them.
        unsafe { self.entry(Command::MapUpdate, key, value.as_ptr() as u64) }
    }

    /// Reads what the key leads to into `value`; false if nothing.
    pub fn read(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        assert_eq!((key.len(), value.len()), (self.key_bytes, self.value_bytes), "as the map was made");
        // SAFETY: as above; `value` is writable.
        found(unsafe { self.entry(Command::MapLookup, key, value.as_mut_ptr() as u64) })
    }

    /// Removes a key; false if it led to nothing.
    pub fn remove(&self, key: &[u8]) -> io::Result<bool> {
        assert_eq!(key.len(), self.key_bytes, "as the map was made");
        // SAFETY: as above; there is no value.
        found(unsafe { self.entry(Command::MapDelete, key, 0) })
    }

    /// # Safety
    ///
    /// `key` and what is at address `value` are as long as the map was made with, the latter writable for a lookup.
    unsafe fn entry(&self, command: Command, key: &[u8], value: u64) -> io::Result<()> {
        #[repr(C)]
        struct Entry {
            map: u32,
            padding: u32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let map = self.fd.as_raw_fd() as u32;
        let mut entry = Entry { map, padding: 0, key: key.as_ptr() as u64, value, flags: 0 };
        // SAFETY: by this function's contract.
        unsafe { bpf(command, &mut entry) }.map(drop)
    }
}

fn found(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Loads a program. The kernel's verifier proves that it ends and touches nothing it may not.
pub fn load(kind: ProgramType, code: &[u64]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    let mut log: Vec<u8> = Vec::new();
    let attempt = |log: &mut Vec<u8>| {
        let mut load = Load {
            kind: kind as u32,
            instructions: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: u32::from(!log.is_empty()),
            log_bytes: log.len() as u32,
            log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kernel_version: 0,
            flags: 0,
        };
        // SAFETY: the code is as long as said, the license a C string, and the log writable and as long as said.
        unsafe { bpf(Command::ProgramLoad, &mut load) }
    };
    let fd = attempt(&mut log).or_else(|error| {
        if error.raw_os_error() == Some(libc::EPERM) {
            return Err(error);
        }
        // Once more for the verifier's last words, which say what is wrong.
        log.resize(1 << 16, 0);
        attempt(&mut log).map_err(|error| {
            let text = String::from_utf8_lossy(&log);
            let text = text.trim_end_matches(['\0', '\n']);
            let words = text.lines().rev().take(3).collect::<Vec<_>>();
            io::Error::new(error.kind(), format!("the kernel refuses the program: {error} ({})", words.join("; ")))
        })
    })?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to an interface as long as the returned descriptor is open. Fails with `EBUSY` if another program is
/// there (XDP).
pub fn attach(program: BorrowedFd<'_>, interface: u32, to: AttachType, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Link {
        program: u32,
        interface: u32,
        to: u32,
        flags: u32,
    }
    let mut link = Link { program: program.as_raw_fd() as u32, interface, to: to as u32, flags };
    // SAFETY: needed to attach a program; the attributes name no memory.
    let fd = unsafe { bpf(Command::LinkCreate, &mut link)? };
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `enum bpf_cmd`
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    ProgramLoad = 5,
    LinkCreate = 28,
}

/// # Safety
///
/// `attributes` is laid out as the command's part of `union bpf_attr` begins, and all memory it names is valid.
unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: by this function's contract. The kernel takes what is missing at the end as zeros.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as c_long, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_those_of_the_standard() {
        let mut assembler = Assembler::new();
        let end = assembler.label();
        assembler.set(0, 2);
        assembler.load(Width::Half, 5, 2, 12);
        assembler.jump32(When::NotEqual, 5, 8, end);
        assembler.store_value(Width::Double, 10, -8, -1);
        assembler.call(Helper::RedirectMap);
        assembler.place(end);
        assembler.exit();
        let bytes: Vec<[u8; 8]> = assembler.finish().into_iter().map(u64::to_ne_bytes).collect();
        if cfg!(target_endian = "little") {
            assert_eq!(
                bytes,
                [
                    [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
                    [0x69, 0x25, 12, 0, 0, 0, 0, 0],
                    [0x56, 0x05, 2, 0, 8, 0, 0, 0],
                    [0x7a, 0x0a, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff],
                    [0x85, 0x00, 0, 0, 51, 0, 0, 0],
                    [0x95, 0x00, 0, 0, 0, 0, 0, 0],
                ]
            );
        }
    }

    #[test]
    #[should_panic(expected = "every label has a place")]
    fn a_label_without_a_place_is_a_mistake() {
        let mut assembler = Assembler::new();
        let nowhere = assembler.label();
        assembler.go(nowhere);
        assembler.finish();
    }

    #[test]
    fn a_refused_program_is_told_why() {
        let mut assembler = Assembler::new();
        assembler.exit();
        match load(ProgramType::Xdp, &assembler.finish()) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => println!("skipped: no eBPF here"),
            Err(error) => assert!(error.to_string().contains("R0"), "{error}"),
            Ok(_) => panic!("a program without a result is loaded"),
        }
    }

    #[test]
    fn maps_remember_and_forget() {
        let map = match Map::new(MapType::LruHash, 4, 4, 16) {
            Ok(map) => map,
            Err(error) => return println!("skipped: {error}"),
        };
        let mut value = [0; 4];
        assert!(!map.read(&[1; 4], &mut value).unwrap());
        map.set(&[1; 4], &[7; 4]).unwrap();
        assert!(map.read(&[1; 4], &mut value).unwrap() && value == [7; 4]);
        assert!(map.remove(&[1; 4]).unwrap() && !map.remove(&[1; 4]).unwrap());
    }
}
