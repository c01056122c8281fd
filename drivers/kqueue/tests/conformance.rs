//! The conformance suite: complete engines over kqueue. On Linux, over the emulation of kqueue.

lightcone_conformance::tests!(lightcone_kqueue::Kqueue);
