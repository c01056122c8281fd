//! The threads that wait for disks.

use alloc::sync::Arc;
use core::panic::AssertUnwindSafe;
use std::io;
use std::panic::catch_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// What a thread does in place of a poller.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// A few threads with one queue. They end when this is dropped and the queue is empty.
pub(crate) struct Threads {
    tasks: SyncSender<Task>,
}

impl Threads {
    /// Starts `count` threads with a queue for `waiting` tasks.
    ///
    /// # Errors
    /// If the system refuses a thread. Those that were started end.
    pub(crate) fn start(count: usize, waiting: usize) -> io::Result<Self> {
        let (tasks, queue) = sync_channel(waiting);
        let queue = Arc::new(Mutex::new(queue));
        for thread in 0..count {
            let queue = Arc::clone(&queue);
            let builder = thread::Builder::new().name(format!("lightcone-file-{thread}"));
            builder.spawn(move || run(&queue))?;
        }
        Ok(Self { tasks })
    }

    /// Queues a task; returns whether there was a place for it.
    pub(crate) fn queue(&self, task: Task) -> bool {
        self.tasks.try_send(task).is_ok()
    }
}

fn run(queue: &Mutex<Receiver<Task>>) {
    loop {
        // The lock is released before the task runs.
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        // A panic of the program's notification must not leave the queue without threads. The hook has reported it.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_queue_has_its_places_and_no_more() {
        let (release, blocked) = channel::<()>();
        let (started, running) = channel();
        let threads = Threads::start(1, 2).unwrap();
        assert!(threads.queue(Box::new(move || {
            started.send(()).unwrap();
            let _ = blocked.recv();
        })));
        running.recv().unwrap();
        let (done, results) = channel();
        for n in 0..3 {
            let done = done.clone();
            assert_eq!(threads.queue(Box::new(move || done.send(n).unwrap())), n < 2, "{n}");
        }
        drop((release, done));
        assert_eq!(results.iter().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_panic_ends_no_thread() {
        let threads = Threads::start(1, 1).unwrap();
        let (started, running) = channel();
        assert!(threads.queue(Box::new(move || {
            started.send(()).unwrap();
            panic!("planted");
        })));
        running.recv().unwrap();
        let (done, result) = channel();
        assert!(threads.queue(Box::new(move || done.send(1).unwrap())));
        assert_eq!(result.recv(), Ok(1));
    }
}
