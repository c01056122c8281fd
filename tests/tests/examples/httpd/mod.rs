mod bodies;
mod client;
#[cfg(target_os = "linux")] // it measures resident memory by /proc
mod crowd;
mod ending;
mod handing_over;
mod many;
mod metrics;
mod options;
mod proxy_protocol;
mod refusals;
mod requests;
mod times;
mod workers;
