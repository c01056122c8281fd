//! HTTP/1.1 as a handler over lightcone-core: no_std, no heap
#![no_std]
