mod bodies;
mod client;
mod ending;
#[cfg(unix)]
mod many;
mod metrics;
mod options;
mod refusals;
mod requests;
mod times;
