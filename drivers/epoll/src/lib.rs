//! lightcone's driver for Linux epoll
