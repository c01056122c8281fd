//! The platform's drivers by name, for programs that let their user choose.

use core::fmt;
use core::str::FromStr;

/// Declares [`DriverName`] from a list of names and drivers: a driver more is a line more.
macro_rules! names {
    ($($name:literal => $driver:ty),+ $(,)?) => {
        impl DriverName {
            /// All names that this platform has.
            pub const ALL: &[Self] = &[$(Self($name)),+];

            /// Starts an engine as [`Builder::start`](lightcone_unix::Builder::start) does, over the driver of this
            /// name.
            ///
            /// # Errors
            ///
            /// As `Builder::start`.
            pub fn start<H>(
                self,
                builder: $crate::Builder,
                make: impl Fn($crate::PollerContext<H::Message>) -> H + Send + Sync + 'static,
            ) -> Result<$crate::Engine<H::Message>, $crate::Error>
            where
                H: lightcone_core::Handler<Message: Send> + 'static,
            {
                match self.0 {
                    $($name => builder.driver::<$driver>().start(make),)+
                    other => unreachable!("no value of DriverName is called {other}"),
                }
            }
        }
    };
}
pub(crate) use names;

/// The name of a driver of this platform.
///
/// ```
/// use lightcone_native::DriverName;
///
/// let name: DriverName = "native".parse()?;
/// assert_eq!(name, DriverName::default());
/// let error = "fast".parse::<DriverName>().unwrap_err();
/// assert!(error.to_string().starts_with("\"fast\" is no driver of this system; allowed: native"));
/// # Ok::<(), lightcone_native::UnknownDriver>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DriverName(
    /// INVARIANT: one of those in `ALL`.
    pub(crate) &'static str,
);

impl Default for DriverName {
    /// `native`: whichever driver is the best.
    fn default() -> Self {
        Self("native")
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl FromStr for DriverName {
    type Err = UnknownDriver;

    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        let known = Self::ALL.iter().find(|known| known.0 == name);
        known.copied().ok_or_else(|| UnknownDriver { name: name.into() })
    }
}

/// A name that no driver of this platform has.
#[derive(Clone, PartialEq, Eq)]
pub struct UnknownDriver {
    name: Box<str>,
}

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no driver of this system; allowed: ", self.name)?;
        for (at, name) in DriverName::ALL.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// As the sentence, which is what a `main` that returns the error prints.
impl fmt::Debug for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for UnknownDriver {}
