// The contract of the content store, as containerd's clients know it. Runs on the services in process and through gRPC.

import type { Api } from './api';
import { ContentClient } from './content-client';
import { contentRecordCases } from './content-records';
import { contentWriteCases } from './content-write';

export interface ContentFixture {
  readonly api: Api;
  close(): Promise<void>;
}

export function contentSuite(name: string, open: () => Promise<ContentFixture>): void {
  describe(`content store (${name})`, () => {
    let fixture: ContentFixture;
    let client: ContentClient;

    beforeAll(async () => {
      fixture = await open();
      client = new ContentClient(fixture.api);
    });
    afterAll(async () => {
      await fixture.api.close();
      await fixture.close();
    });

    contentWriteCases(() => client);
    contentRecordCases(() => client);
  });
}
