//! The engine over kqueue keeps every promise: on Linux, over the emulation of kqueue.

lightcone_conformance::tests!(lightcone_kqueue::Kqueue);
