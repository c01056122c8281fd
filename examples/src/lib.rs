//! Programs to start from: httpd, echo, chat, relay
