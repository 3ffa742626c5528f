//! A connection and the memory that it borrows.
#![allow(
    unsafe_code,
    reason = "lends a connection memory that outlives it in the same value"
)]

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use pontoon_relay::{Buffers, Connection};

/// A connection with buffers of its own.
pub(super) struct Held {
    connection: ManuallyDrop<Connection>,
    memory: [NonNull<[u8]>; 2],
}

impl Held {
    /// The connection that `make` makes of buffers of `room` bytes for each direction.
    pub(super) fn new(room: usize, make: impl FnOnce(Buffers) -> Connection) -> Self {
        let mut memory = [(), ()].map(|()| {
            let boxed = vec![0; room].into_boxed_slice();
            NonNull::from(Box::leak(boxed))
        });
        let [received, unsent] = &mut memory;
        // SAFETY: fresh boxes; `connection` is the only borrower and is dropped before they are freed.
        let buffers = unsafe {
            Buffers {
                received: received.as_mut(),
                unsent: unsent.as_mut(),
            }
        };
        Self {
            connection: ManuallyDrop::new(make(buffers)),
            memory,
        }
    }
}

impl Deref for Held {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: dropped once, here; the memory comes from boxes, and its borrower is gone.
        unsafe {
            ManuallyDrop::drop(&mut self.connection);
            for half in self.memory {
                drop(Box::from_raw(half.as_ptr()));
            }
        }
    }
}
