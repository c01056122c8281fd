//! The best lightcone driver of the platform
