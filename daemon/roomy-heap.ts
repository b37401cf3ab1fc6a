// Room for bytes of clients that pass through the heap: V8 counts buffers on their way as part of it, and would collect a
// small heap for every few MB. Not on all the time: under other flags than its own V8 refuses the compiled code that Node
// brings, and each thread takes twice as long to start.

import { setFlagsFromString } from 'node:v8';

let users = 0;

/** Until it is disposed of, the heap may grow to three times its size between collections. */
export function roomyHeap(): Disposable {
  users += 1;
  if (users === 1) setFlagsFromString('--heap-growing-percent=200');
  return {
    [Symbol.dispose]: () => {
      users -= 1;
      if (users === 0) setFlagsFromString('--heap-growing-percent=0');
    },
  };
}
