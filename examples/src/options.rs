//! The command-line options of all servers.

use core::fmt;
use core::num::NonZeroUsize;
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;
use std::thread;

use lightcone::endpoint::{Endpoint, EndpointError};
use lightcone::{Builder, DriverName, Policy, Readiness, ToEndpoints};

/// The options that every server has; a program adds its own around them with `#[command(flatten)]`.
///
/// To change the default address from `127.0.0.1:7000`, put `#[command(mut_arg("listen", |arg|
/// arg.default_value("127.0.0.1:8080")))]` on the program's options.
#[derive(clap::Args, Clone, Debug)]
pub struct ServerOptions {
    /// Address to listen on: HOST:PORT (an IPv6 address in brackets) or unix:PATH; port 0 lets the system choose.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7000")]
    pub listen: Addresses,

    /// Driver that waits for socket events.
    #[arg(long, value_name = "NAME", default_value_t, help = driver_help())]
    pub driver: DriverName,

    /// Number of threads that serve connections [default: one per processor].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(1..=256))]
    pub pollers: Option<usize>,

    /// How connections are distributed over the pollers: round-robin, least, two, hash or pinned:N.
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub balancer: Policy,

    /// Maximum number of connections, divided evenly among the pollers; further clients wait until a connection ends
    /// [default: 65536 per poller].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = within::<usize>(1..=16_777_216))]
    pub max_connections: Option<usize>,

    /// Seconds that connections have to end after a signal to stop; a second signal ends them at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, allow_negative_numbers = true, value_parser = within::<u64>(0..=86_400))]
    pub grace: u64,

    /// What happens between a signal to stop and the stop. It is no option by itself: a program sets it.
    #[arg(skip)]
    pub drain: Drain,
}

/// The time in which load balancers notice that a server stops, before it stops.
#[derive(Clone, Default, Debug)]
pub struct Drain {
    /// What a route for balancers reads.
    pub readiness: Readiness,
    /// How long the server goes on serving after the readiness was withdrawn.
    pub delay: Duration,
}

/// Returns a parser of numbers within bounds for options. Unlike clap's own, it states the allowed range even if the
/// value is not a number.
///
/// ```
/// # use clap::Parser;
/// # use lightcone_examples::within;
/// #[derive(Parser, Debug)]
/// struct Options {
///     #[arg(long, allow_negative_numbers = true, value_parser = within::<u64>(1..=10))]
///     size: u64,
/// }
///
/// assert_eq!(Options::try_parse_from(["program", "--size", "10"]).unwrap().size, 10);
/// for wrong in ["0", "11", "-1", "many"] {
///     let error = Options::try_parse_from(["program", "--size", wrong]).unwrap_err().to_string();
///     assert!(error.contains(wrong) && error.contains("allowed: 1 to 10"), "{error}");
/// }
/// ```
pub fn within<N>(allowed: RangeInclusive<N>) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync,
{
    move |text| {
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        number.ok_or_else(|| format!("allowed: {} to {}", allowed.start(), allowed.end()))
    }
}

fn driver_help() -> String {
    let names: Vec<_> = DriverName::ALL.iter().map(DriverName::to_string).collect();
    format!("Driver that waits for socket events: {}", names.join(", "))
}

/// A combination of options that is not allowed, although each is valid on its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for UsageError {}

impl ServerOptions {
    /// Returns an engine builder with the settings of the options, which the program can refine.
    ///
    /// # Errors
    ///
    /// There are fewer connections than pollers.
    pub fn builder(&self) -> Result<Builder, UsageError> {
        let mut builder = Builder::new().pollers(self.pollers()).balancer(self.balancer);
        if let Some(connections) = self.connections_per_poller()? {
            builder = builder.sockets(connections);
        }
        Ok(builder)
    }

    /// Returns the number of pollers: by default one per processor, but no more than connections.
    #[must_use]
    pub fn pollers(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.pollers.unwrap_or_else(|| processors.clamp(1, self.max_connections.unwrap_or(256).clamp(1, 256)))
    }

    /// Returns each poller's share of `--max-connections`, rounded down; `None` if that option is absent.
    ///
    /// # Errors
    ///
    /// There are fewer connections than pollers.
    pub fn connections_per_poller(&self) -> Result<Option<usize>, UsageError> {
        let pollers = self.pollers();
        match self.max_connections {
            Some(all) if all < pollers => Err(UsageError(format!(
                "--max-connections {all} with --pollers {pollers}; allowed: at least one for each poller"
            ))),
            all => Ok(all.map(|all| all / pollers)),
        }
    }

    /// Returns how long connections have to end after a signal to stop.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace)
    }
}

/// An address on the command line. A host name may resolve to several endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Addresses {
    text: Box<str>,
    /// INVARIANT: not empty.
    endpoints: Vec<Endpoint>,
}

impl Addresses {
    /// Returns the endpoints in the order of the system's resolver, at least one.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}

impl FromStr for Addresses {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Ok(Self { text: text.into(), endpoints: Endpoint::resolve(text)? })
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl ToEndpoints for Addresses {
    fn to_endpoints(&self) -> Result<Vec<Endpoint>, EndpointError> {
        Ok(self.endpoints.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    #[command(mut_arg("listen", |arg| arg.default_value("127.0.0.1:8080")))]
    struct Program {
        #[command(flatten)]
        server: ServerOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ServerOptions, String> {
        let all = core::iter::once("program").chain(arguments.iter().copied());
        Program::try_parse_from(all).map(|program| program.server).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_can_listen_elsewhere_by_default() {
        assert_eq!(parse(&[]).unwrap().listen.to_string(), "127.0.0.1:8080");
        assert_eq!(parse(&["--listen", "[::1]:1"]).unwrap().listen.to_string(), "[::1]:1");
    }

    #[test]
    fn connections_are_shared_out_and_never_exceeded() {
        let share = |arguments: &[&str]| parse(arguments).unwrap().connections_per_poller();
        assert_eq!(share(&["--pollers", "2"]), Ok(None));
        assert_eq!(share(&["--pollers", "3", "--max-connections", "11"]), Ok(Some(3)));
        assert_eq!(share(&["--max-connections", "1"]), Ok(Some(1)));
        let error = share(&["--pollers", "4", "--max-connections", "3"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--max-connections 3 with --pollers 4; allowed: at least one for each poller"
        );
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (option, value, allowed) in [
            ("--listen", "7000", "127.0.0.1:8080"),
            ("--driver", "fast", "native"),
            ("--pollers", "0", "1 to 256"),
            ("--balancer", "random", "round-robin"),
            ("--pollers", "many", "1 to 256"),
            ("--max-connections", "0", "1 to 16777216"),
            ("--grace", "-1", "0 to 86400"),
        ] {
            let error = parse(&[option, value]).unwrap_err();
            assert!(error.contains(&format!("'{value}'")) && error.contains(option), "{error}");
            assert!(error.contains(allowed), "{error}");
        }
    }
}
