// The Task API of Debian's containerd-shim-runc-v2, a Go peer, which shows that the cases are right.

import { retryPeer } from '../../setup/needs';
import { PEER } from './subjects';
import { taskApiSuite } from './task-api';

retryPeer();
taskApiSuite([PEER]);
