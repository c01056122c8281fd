//! Memory that the caller lends to a shard.

use crate::config::ConfigError;
use crate::slot::Slot;
use crate::table::Table;
use core::fmt;
use core::mem::MaybeUninit;

/// The memory of one shard: slots for sockets and bytes for blocks.
///
/// It may be static, on the stack or on a heap. The shard does not touch a page before it needs it, so a table of a
/// million slots costs only what is used of it.
///
/// ```
/// use core::mem::MaybeUninit;
/// use lightcone_core::{Config, Instant, Shard, Storage};
///
/// const CONFIG: Config = Config { sockets: 4, ..Config::DEVICE };
/// let mut slots = [const { MaybeUninit::uninit() }; CONFIG.sockets];
/// let mut memory = [0; CONFIG.memory()];
/// let storage = Storage { slots: &mut slots, memory: &mut memory };
/// let shard: Shard<'_, u32> = Shard::new(storage, &CONFIG, Instant::from_millis(0))?;
/// # Ok::<(), lightcone_core::SetupError>(())
/// ```
pub struct Storage<'s, D> {
    /// At least [`Config::sockets`](crate::Config) slots.
    pub slots: &'s mut [MaybeUninit<Slot<D>>],
    /// At least [`Config::memory`](crate::Config::memory) bytes. Their initial contents are irrelevant.
    pub memory: &'s mut [u8],
}

impl<D> fmt::Debug for Storage<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("slots", &self.slots.len())
            .field("memory", &self.memory.len())
            .finish()
    }
}

/// The size in bytes of the note that a shard keeps of each socket outside its slot.
pub(crate) const NOTE_BYTES: usize = 4;

/// The size in bytes of the window that a shard keeps of each socket if output has a minimum rate.
pub(crate) const WINDOW_BYTES: usize = 12;

/// The slots of a shard.
pub(crate) type Slots<'s, D> = Table<'s, Slot<D>>;

/// The error for lent memory that is too short.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct StorageError {
    /// The part that is too short.
    pub part: &'static str,
    /// Its length.
    pub length: usize,
    /// The minimum length for the configuration.
    pub needed: usize,
}

impl StorageError {
    /// Checks the length of a part.
    ///
    /// # Errors
    ///
    /// If `length` is less than `needed`.
    pub const fn check(part: &'static str, length: usize, needed: usize) -> Result<(), Self> {
        if length < needed { Err(Self { part, length, needed }) } else { Ok(()) }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, length, needed } = self;
        write!(f, "the lent memory is too short: {part} has a length of {length}, and {needed} is needed")
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for StorageError {}

/// The reason why a shard or a poller cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetupError {
    /// A setting is out of its range.
    Config(ConfigError),
    /// The lent memory is too short.
    Storage(StorageError),
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
        }
    }
}

/// Formats like `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for SetupError {
    /// Skips the wrapped error, whose text `Display` contains, and returns that error's source.
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Storage(error) => error.source(),
        }
    }
}

impl From<ConfigError> for SetupError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StorageError> for SetupError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}
