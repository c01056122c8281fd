//! The platform's drivers by name, for programs that let the user choose one.

use core::fmt;
use core::str::FromStr;

/// Implements [`DriverName`] for a list of names and drivers.
macro_rules! names {
    ($($name:literal => $driver:ty),+ $(,)?) => {
        impl DriverName {
            /// All driver names of this platform.
            pub const ALL: &[Self] = &[$(Self($name)),+];

            /// Starts an engine over the driver of this name, like [`Builder::start`](lightcone_unix::Builder::start).
            ///
            /// # Errors
            ///
            /// Same as `Builder::start`.
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
                    other => unreachable!("{other} is not in DriverName::ALL"),
                }
            }
        }
    };
}
pub(crate) use names;

/// The name of a driver of this platform.
///
/// ```
/// use lightcone::DriverName;
///
/// let name: DriverName = "native".parse()?;
/// assert_eq!(name, DriverName::default());
/// let error = "fast".parse::<DriverName>().unwrap_err();
/// assert!(error.to_string().starts_with("\"fast\" is not a driver of this system; allowed: native"));
/// # Ok::<(), lightcone::UnknownDriver>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DriverName(
    /// INVARIANT: one of the names in `ALL`.
    pub(crate) &'static str,
);

impl Default for DriverName {
    /// Returns `native`, the name of the platform's best driver.
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

/// An error for a name that is not a driver of this platform.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnknownDriver {
    name: Box<str>,
}

impl fmt::Display for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a driver of this system; allowed: ", self.name)?;
        for (at, name) in DriverName::ALL.iter().enumerate() {
            write!(f, "{}{name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Same as `Display`, because a `main` that returns the error prints its `Debug` form.
impl fmt::Debug for UnknownDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for UnknownDriver {}
