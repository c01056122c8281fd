//! The routes of the device: the firmware `http` and the example `device` for the host include this file.
//!
//! The root of the program has to import `Instant` and, by the name `http`, the HTTP crate: `lightcone_core::Instant`
//! and `lightcone_http` on a device, `lightcone::Instant` and `lightcone::http` on a host.

use core::convert::Infallible;
use core::fmt;
use core::time::Duration;

use super::Instant;
use super::http::{Asset, Done, Exchange, Flow, Http, Limits, Reply, Response, Routes, State, Transfer};

/// The page: one file, which shows the figures of the event stream and switches the LEDs. A browser that has it asks
/// whether it has changed, and gets a 304.
static PAGE: Asset = Asset::new(include_bytes!("page.html"))
    .content_type("text/html; charset=utf-8")
    .cache_control("no-cache")
    .hashed();

/// The number of LEDs.
const LEDS: u32 = 2;

/// The time between two events of a stream.
const INTERVAL: Duration = Duration::from_millis(500);

/// Limits for a device: the longest head is that of a browser, and the only body is a number.
const LIMITS: Limits = Limits { head: 1024, target: 256, fields: 40, body: 16, ..Limits::DEFAULT };

/// What the routes need of the device that they run on.
pub(crate) trait Panel {
    /// Returns which LEDs are on, one bit for each.
    fn leds(&self) -> u32;

    /// Turns LEDs on and off.
    fn set_leds(&mut self, leds: u32);

    /// Returns the memory in use.
    fn memory(&self) -> Memory;
}

/// Memory of the device in bytes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// The part of fixed size, which holds the sockets and their buffers.
    pub(crate) fixed: usize,
    /// The most of the stack that was used since the start.
    pub(crate) stack: usize,
    /// The memory in which the stack grows.
    pub(crate) stack_size: usize,
}

impl fmt::Display for Memory {
    /// Formats as JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fixed, stack, stack_size } = self;
        write!(f, r#"{{"fixed":{fixed},"stack":{stack},"stack_size":{stack_size}}}"#)
    }
}

/// The state of the server.
pub(crate) struct Device<P> {
    panel: P,
    /// How many requests were answered since the start; wraps.
    requests: u32,
}

impl<P: Panel> State for Device<P> {
    type Message = Infallible;
}

impl<P: Panel> Device<P> {
    /// Counts a request, and returns the panel.
    const fn count(&mut self) -> &mut P {
        self.requests = self.requests.wrapping_add(1);
        &mut self.panel
    }
}

/// Returns the server of a device.
pub(crate) fn server<P: Panel>(panel: P) -> Http<Device<P>, impl Routes<Device<P>>> {
    Http::with(Device { panel, requests: 0 })
        .limits(LIMITS)
        .get("/", |request, response| {
            request.state.count();
            request.asset(response, || &PAGE)
        })
        .get("/api/leds", |request, response| send_leds(request.state, response))
        .post("/api/leds", |request, response| request.gather(response, switch))
        .get("/api/memory", |request, response| response.display_json(request.state.count().memory()))
        .get("/api/requests", |request, response| {
            request.state.count();
            response.display_json(request.state.requests)
        })
        .get("/api/events", |request, response| {
            request.state.count();
            response.header("Content-Type", "text/event-stream").stream(None, Events::default())
        })
}

/// Sends which LEDs are on.
fn send_leds<P: Panel>(device: &mut Device<P>, response: Response<'_>) -> Reply<Done> {
    response.display_json(device.count().leds())
}

/// Turns LEDs on and off as the body requests: a decimal number, one bit for each LED.
fn switch<P: Panel>(device: &mut Device<P>, body: &[u8], response: Response<'_>) -> Reply<Done> {
    match str::from_utf8(body).map(|text| text.trim_ascii().parse::<u32>()) {
        Ok(Ok(leds)) if leds < 1 << LEDS => {
            device.panel.set_leds(leds);
            send_leds(device, response)
        }
        _ => {
            device.count();
            response.refuse(400)
        }
    }
}

/// A stream of events: the figures of the device.
#[derive(Default)]
struct Events {
    /// When the next event is due; `None` before the first.
    next: Option<Instant>,
}

impl<P: Panel> Exchange<Device<P>> for Events {
    fn advance(&mut self, io: &mut Transfer<'_, Device<P>>) -> Flow {
        let now = io.now();
        if self.next.is_none_or(|next| now >= next) {
            let Device { ref panel, requests } = *io.state;
            let (leds, memory) = (panel.leds(), panel.memory());
            let event = format_args!(
                "data: {{\"millis\":{},\"requests\":{requests},\"leds\":{leds},\"memory\":{memory}}}\n\n",
                now.as_millis()
            );
            // The write fails if the client does not read, so that there is no room. `advance` is called again when
            // there is.
            if io.write_fmt(event).is_err() {
                return Flow::More;
            }
            self.next = Some(now + INTERVAL);
        }
        if let Some(next) = self.next {
            io.wake_at(next);
        }
        Flow::More
    }

    /// Ends the stream when the server stops.
    fn shutdown(&mut self, _: &mut Transfer<'_, Device<P>>) -> Flow {
        Flow::Done
    }

    /// Ends the stream of a client that has left, so that its socket is free.
    fn peer_closed(&mut self, _: &mut Transfer<'_, Device<P>>) -> Flow {
        Flow::Abort
    }
}
