//! Reader of BTF, the kernel's own description of its types (`/sys/kernel/btf/vmlinux`).
//!
//! It answers the few questions that the BPF programs need before they are loaded: where a member
//! is (also through anonymous structs and unions), how large a type is, what an enum constant is
//! worth, and which parameters a tracepoint has. Nothing is decided by the kernel's version.
//!
//! The file is read once (5–10 MB), only the places of its types are noted, and every question is
//! a scan; drop the [`Btf`] when the questions are asked. A damaged file gives an error or `None`.
//! Only little-endian files of 64-bit kernels are read, as only those are supported.
//!
//! Format: the kernel's `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h`.

use std::path::{Path, PathBuf};

/// Where the running kernel shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
/// Bytes of `struct btf_type`.
const TYPE_LEN: usize = 12;
/// Most links (typedef, const, …) followed from one type: real chains are below ten.
const MAX_CHAIN: u32 = 32;
/// Most members looked at for one path: a damaged file may nest a type in itself.
const MAX_VISITS: u32 = 100_000;
/// Bytes of a pointer.
const POINTER: u32 = 8;

/// Kinds of `enum btf_kind` that are told apart here.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Why a BTF file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read; most often the kernel has no BTF.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not begin like a little-endian BTF file.
    #[error("not a BTF file of a little-endian kernel")]
    NotBtf,
    /// A length or an offset leads out of the file.
    #[error("damaged BTF: {what} at byte {at}")]
    Damaged {
        /// What was being read.
        what: &'static str,
        /// Where, from the start of the file.
        at: usize,
    },
    /// A kind of type that this reader does not know, so that the rest cannot be found.
    #[error("BTF kind {0} is not known")]
    UnknownKind(u32),
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the outermost struct.
    pub offset: u32,
    /// Bytes of the whole member (of all elements, when it is an array).
    pub size: u32,
    /// Number of its type, for [`Btf::type_name`] and [`Btf::element`].
    pub type_id: u32,
}

/// One parsed file.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Byte where type `n + 1` begins (type 0 is `void`).
    types: Vec<u32>,
    strings: std::ops::Range<usize>,
}

/// `struct btf_type`, decoded.
#[derive(Clone, Copy)]
struct Type {
    /// Byte behind the fixed part.
    body: usize,
    name: u32,
    kind: u32,
    vlen: u32,
    /// `kind_flag`: members carry a bit-field size.
    flag: bool,
    /// Size in bytes, or the type referred to.
    value: u32,
}

impl Btf {
    /// Types of the running kernel.
    ///
    /// # Errors
    /// The kernel has no BTF, or it cannot be read.
    pub fn running() -> Result<Self, BtfError> {
        Self::open(Path::new(VMLINUX))
    }

    /// Types of the kernel whose BTF is in this file.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, BtfError> {
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(bytes)
    }

    /// Types of a file already read.
    ///
    /// # Errors
    /// It is no BTF, is cut, or holds a kind of type that is not known.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        if half(0) != Some(MAGIC) {
            return Err(BtfError::NotBtf);
        }
        let header = |at: usize| {
            word(&bytes, at)
                .map(|value| value as usize)
                .ok_or(BtfError::Damaged { what: "header", at })
        };
        let start = header(4)?;
        let section = |offset_at: usize, what: &'static str| {
            let from = start.saturating_add(header(offset_at)?);
            let to = from.saturating_add(header(offset_at + 4)?);
            if to > bytes.len() {
                return Err(BtfError::Damaged {
                    what,
                    at: offset_at,
                });
            }
            Ok(from..to)
        };
        let body = section(8, "types")?;
        let strings = section(16, "strings")?;
        let types = places(&bytes, body)?;
        Ok(Self {
            bytes,
            types,
            strings,
        })
    }

    /// How many types it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.len()
    }

    /// Whether it has no type at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// The member at `path` ("rss_stat.count") of struct or union `outer`. Bit fields are `None`.
    #[must_use]
    pub fn field(&self, outer: &str, path: &str) -> Option<Field> {
        let mut type_id = self.composite(outer)?;
        let mut offset = 0_u32;
        let mut found = None;
        let mut visits = MAX_VISITS;
        for name in path.split('.') {
            let field = self.member(type_id, name, &mut visits, 0)?;
            offset = offset.checked_add(field.offset)?;
            type_id = field.type_id;
            found = Some(Field { offset, ..field });
        }
        found
    }

    /// Bytes of struct or union `name`.
    #[must_use]
    pub fn size_of(&self, name: &str) -> Option<u32> {
        Some(self.get(self.composite(name)?)?.value)
    }

    /// Value of the enum constant `name`, in whichever enum it is.
    #[must_use]
    pub fn enum_value(&self, name: &str) -> Option<i64> {
        self.all()
            .filter(|(_, each)| matches!(each.kind, kind::ENUM | kind::ENUM64))
            .find_map(|(_, each)| self.enum_constant(&each, name))
    }

    /// Types of a tracepoint's arguments ("int", "struct task_struct *"), without the first, which
    /// is the private `void *` of the hook. From `typedef void (*btf_trace_NAME)(void *, …)`.
    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<Vec<String>> {
        let wanted = format!("btf_trace_{name}");
        let (_, alias) = self
            .all()
            .find(|(_, each)| each.kind == kind::TYPEDEF && self.is_named(each, &wanted))?;
        let pointer = self.get(alias.value)?;
        let proto = self.get(pointer.value)?;
        if pointer.kind != kind::PTR || proto.kind != kind::FUNC_PROTO {
            return None;
        }
        (1..proto.vlen as usize)
            .map(|index| {
                let type_id = word(&self.bytes, proto.body + index * 8 + 4)?;
                self.type_name(type_id)
            })
            .collect()
    }

    /// A type as C would write it: "struct task_struct *", "long unsigned int", "pid_t".
    #[must_use]
    pub fn type_name(&self, type_id: u32) -> Option<String> {
        self.name_at_depth(type_id, 0)
    }

    /// Element type and number of elements, when the type is an array.
    #[must_use]
    pub fn element(&self, type_id: u32) -> Option<(u32, u32)> {
        let array = self.resolve(type_id)?;
        if array.kind != kind::ARRAY {
            return None;
        }
        Some((
            word(&self.bytes, array.body)?,
            word(&self.bytes, array.body + 8)?,
        ))
    }

    /// Whether the type, behind its typedefs, is a pointer.
    #[must_use]
    pub fn is_pointer(&self, type_id: u32) -> bool {
        self.resolve(type_id)
            .is_some_and(|each| each.kind == kind::PTR)
    }

    /// Bytes that a value of this type takes.
    #[must_use]
    pub fn size(&self, type_id: u32) -> Option<u32> {
        self.size_at_depth(type_id, 0)
    }

    fn size_at_depth(&self, type_id: u32, depth: u32) -> Option<u32> {
        if depth > MAX_CHAIN {
            return None;
        }
        let each = self.resolve(type_id)?;
        match each.kind {
            kind::PTR => Some(POINTER),
            kind::ARRAY => {
                let element = self.size_at_depth(word(&self.bytes, each.body)?, depth + 1)?;
                element.checked_mul(word(&self.bytes, each.body + 8)?)
            }
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::FLOAT => {
                Some(each.value)
            }
            _ => None,
        }
    }

    fn name_at_depth(&self, type_id: u32, depth: u32) -> Option<String> {
        if depth > MAX_CHAIN {
            return None;
        }
        if type_id == 0 {
            return Some("void".to_owned());
        }
        let each = self.get(type_id)?;
        let name = self.text(each.name)?;
        match each.kind {
            kind::PTR => Some(format!("{} *", self.name_at_depth(each.value, depth + 1)?)),
            kind::CONST => Some(format!(
                "const {}",
                self.name_at_depth(each.value, depth + 1)?
            )),
            kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                self.name_at_depth(each.value, depth + 1)
            }
            kind::STRUCT => Some(format!("struct {name}")),
            kind::UNION => Some(format!("union {name}")),
            kind::ENUM | kind::ENUM64 => Some(format!("enum {name}")),
            _ => Some(name.to_owned()),
        }
    }

    fn composite(&self, name: &str) -> Option<u32> {
        self.all()
            .find(|(_, each)| {
                matches!(each.kind, kind::STRUCT | kind::UNION)
                    && each.vlen > 0
                    && self.is_named(each, name)
            })
            .map(|(type_id, _)| type_id)
    }

    /// Looks for a member by name, also in members that have no name of their own.
    fn member(&self, type_id: u32, name: &str, visits: &mut u32, depth: u32) -> Option<Field> {
        let outer = self.resolve(type_id)?;
        if !matches!(outer.kind, kind::STRUCT | kind::UNION) || depth > MAX_CHAIN {
            return None;
        }
        for index in 0..outer.vlen as usize {
            *visits = visits.checked_sub(1)?;
            let at = outer.body + index * TYPE_LEN;
            let (name_at, inner_id) = (word(&self.bytes, at)?, word(&self.bytes, at + 4)?);
            let bits = word(&self.bytes, at + 8)?;
            let (bit, width) = if outer.flag {
                (bits & 0x00ff_ffff, bits >> 24)
            } else {
                (bits, 0)
            };
            let member = self.text(name_at)?;
            if member == name {
                let size = self.size(inner_id)?;
                let whole = width == 0 && bit % 8 == 0;
                return whole.then_some(Field {
                    offset: bit / 8,
                    size,
                    type_id: inner_id,
                });
            }
            if member.is_empty()
                && let Some(inner) = self.member(inner_id, name, visits, depth + 1)
            {
                return Some(Field {
                    offset: inner.offset.checked_add(bit / 8)?,
                    ..inner
                });
            }
        }
        None
    }

    fn enum_constant(&self, each: &Type, name: &str) -> Option<i64> {
        let wide = each.kind == kind::ENUM64;
        let step = if wide { 12 } else { 8 };
        (0..each.vlen as usize).find_map(|index| {
            let at = each.body + index * step;
            if self.text(word(&self.bytes, at)?)? != name {
                return None;
            }
            let low = word(&self.bytes, at + 4)?;
            if wide {
                let high = word(&self.bytes, at + 8)?;
                return Some((u64::from(high) << 32 | u64::from(low)).cast_signed());
            }
            Some(if each.flag {
                i64::from(low.cast_signed())
            } else {
                i64::from(low)
            })
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut type_id: u32) -> Option<Type> {
        for _ in 0..MAX_CHAIN {
            let each = self.get(type_id)?;
            match each.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    type_id = each.value;
                }
                _ => return Some(each),
            }
        }
        None
    }

    fn get(&self, type_id: u32) -> Option<Type> {
        let place = self.types.get((type_id as usize).checked_sub(1)?)?;
        decode(&self.bytes, *place as usize)
    }

    fn all(&self) -> impl Iterator<Item = (u32, Type)> + '_ {
        (1_u32..)
            .zip(&self.types)
            .filter_map(|(type_id, place)| Some((type_id, decode(&self.bytes, *place as usize)?)))
    }

    fn is_named(&self, each: &Type, name: &str) -> bool {
        let from = self.strings.start.saturating_add(each.name as usize);
        let to = from.saturating_add(name.len());
        to < self.strings.end
            && self.bytes.get(from..to) == Some(name.as_bytes())
            && self.bytes.get(to) == Some(&0)
    }

    fn text(&self, offset: u32) -> Option<&str> {
        let from = self.strings.start.checked_add(offset as usize)?;
        let rest = self.bytes.get(from..self.strings.end)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn decode(bytes: &[u8], at: usize) -> Option<Type> {
    let info = word(bytes, at.checked_add(4)?)?;
    Some(Type {
        body: at + TYPE_LEN,
        name: word(bytes, at)?,
        kind: info >> 24 & 0x1f,
        vlen: info & 0xffff,
        flag: info >> 31 == 1,
        value: word(bytes, at + 8)?,
    })
}

/// Where each type begins; checks that all of them lie inside the section.
fn places(bytes: &[u8], section: std::ops::Range<usize>) -> Result<Vec<u32>, BtfError> {
    let damaged = |at| BtfError::Damaged { what: "type", at };
    let mut places = Vec::with_capacity(section.len() / 40);
    let mut at = section.start;
    while at < section.end {
        let each = decode(bytes, at).ok_or_else(|| damaged(at))?;
        places.push(u32::try_from(at).map_err(|_| damaged(at))?);
        let next = each.body + body_len(&each)?;
        if next > section.end {
            return Err(damaged(at));
        }
        at = next;
    }
    Ok(places)
}

/// Bytes that follow the fixed part of a type.
fn body_len(each: &Type) -> Result<usize, BtfError> {
    let count = each.vlen as usize;
    match each.kind {
        kind::INT | kind::VAR | kind::DECL_TAG => Ok(4),
        kind::ARRAY => Ok(12),
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => Ok(count * 12),
        kind::ENUM | kind::FUNC_PROTO => Ok(count * 8),
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => Ok(0),
        other => Err(BtfError::UnknownKind(other)),
    }
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
