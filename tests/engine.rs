#[path = "support/memory_sink.rs"]
mod memory_sink;
