import { proxyEnvironment, proxyFor } from '../../../../daemon/registry/http/proxy';

const HTTPS = 'http://proxy.test:3128';

test.each([
  ['https://registry.test/v2/', '', HTTPS],
  ['http://registry.test/v2/', '', 'http://plain.test'],
  ['https://registry.test/v2/', 'registry.test', undefined],
  ['https://a.registry.test/v2/', 'registry.test', undefined],
  ['https://a.registry.test/v2/', '.registry.test', undefined],
  ['https://registry.test/v2/', '.registry.test', HTTPS],
  ['https://a.registry.test/v2/', '*.registry.test', undefined],
  ['https://notregistry.test/v2/', 'registry.test', HTTPS],
  ['https://registry.test:5000/v2/', 'other.test, REGISTRY.test:5000', undefined],
  ['https://registry.test:5001/v2/', 'registry.test:5000', HTTPS],
  ['https://registry.test/v2/', 'registry.test:443', undefined],
  ['https://registry.test/v2/', '*', undefined],
  ['https://10.1.2.3/v2/', '10.0.0.0/8', undefined],
  ['https://11.1.2.3/v2/', '10.0.0.0/8', HTTPS],
  ['https://10.1.2.3/v2/', '10.1.2.3', undefined],
  ['https://10.1.2.3/v2/', '1.2.3', HTTPS],
  ['https://[fd00::1]:5000/v2/', 'fd00::/16', undefined],
  ['https://[fd00::1]:5000/v2/', 'fd00::1', undefined],
  ['https://10.1.2.3/v2/', '10.0.0.0/99,/,x/8', HTTPS],
  ['https://localhost:5000/v2/', '', undefined],
  ['http://127.0.0.1:5000/v2/', '', undefined],
  ['http://[::1]:5000/v2/', '', undefined],
])('proxyFor() %s with NO_PROXY=%j gives %s', (url, none, wanted) => {
  const environment = proxyEnvironment({ HTTPS_PROXY: HTTPS, http_proxy: 'plain.test', no_proxy: none });

  expect(proxyFor(new URL(url), environment)).toBe(wanted);
});

test('proxyFor() goes straight when nothing is set', () => {
  expect(proxyFor(new URL('https://registry.test'), proxyEnvironment({}))).toBeUndefined();
});
