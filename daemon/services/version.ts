// containerd.services.version.v1.Version

import { VersionService } from '../../proto/generated/containerd.services.version.v1';
import { defineService, type Service } from '../grpc/handler';

export function versionService(version: string, revision: string): Service {
  return defineService(VersionService, { version: () => ({ version, revision }) });
}
