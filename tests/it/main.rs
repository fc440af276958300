//! Everything that is tested on the real binary and real parts, one module per promise.

mod baileys;
mod bot;
mod clock;
mod demo;
mod disk;
mod disorder;
mod ends;
mod guest;
mod health;
mod install;
mod kill;
mod line;
mod line_scene;
mod machine;
mod main_job;
mod pairing;
mod qr_camera;
mod reconnects;
mod refusals;
mod scene;
mod seed;
mod service_manager;
mod shipped;
mod storage;
mod surroundings;
mod sync;
