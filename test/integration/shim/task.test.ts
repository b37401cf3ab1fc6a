// The Task API of our shim, with our runtime and with others.

import { SUBJECTS } from './subjects';
import { taskApiSuite } from './task-api';

taskApiSuite(SUBJECTS);
