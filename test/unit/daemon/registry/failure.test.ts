import { failureAt, networkError, registryWords, statusError } from '../../../../daemon/registry/http/failure';
import { delayMs, withRetries } from '../../../../daemon/registry/http/retry';

const PLACE = { host: 'registry.test', doing: 'resolve app:1' };
const NEVER = new AbortController().signal;

function answer(status: number, body = '', headers: Record<string, string> = {}) {
  return { status, headers, body: Buffer.from(body) };
}

test.each([
  [401, 'unauthenticated', false],
  [403, 'permission denied', false],
  [404, 'not found', false],
  [408, 'unavailable', true],
  [413, 'resource exhausted', false],
  [429, 'unavailable', true],
  [500, 'unavailable', true],
  [503, 'unavailable', true],
  [599, 'unavailable', true],
  [400, 'unknown', false],
  [418, 'unknown', false],
])('statusError() makes of %i the kind %s', (status, kind, canRetry) => {
  const error = statusError(PLACE, answer(status));

  expect(error).toMatchObject({ kind, canRetry });
  expect(error.message).toMatch(new RegExp(`^registry "registry\\.test": resolve app:1: .*${status}`));
});

test('statusError() ends as clients read a status from when there is no kind', () => {
  expect(statusError(PLACE, answer(418)).message).toMatch(/unexpected status 418$/);
});

test.each([
  ['60', 60_000],
  ['86400', 60_000],
  ['0', 0],
  ['-5', 0],
  ['soon', 0],
  [new Date(Date.now() + 3_600_000).toUTCString(), 60_000],
  [new Date(0).toUTCString(), 0],
])('statusError() takes Retry-After %s as %i ms', (value, ms) => {
  expect(statusError(PLACE, answer(429, '', { 'retry-after': value })).retryAfterMs).toBe(ms);
});

test.each([
  ['{"errors":[{"code":"DENIED","message":"no\\nway"},{"code":"X"}]}', 'DENIED: no way; X'],
  ['{"error":"invalid_grant","error_description":"bad"}', 'invalid_grant; bad'],
  ['<html>a page</html>', ''],
  ['null', ''],
  ['{"errors":[null]}', ''],
  ['{"errors":[{"code":5,"message":{}}]}', ''],
  [JSON.stringify({ details: 'x'.repeat(1000) }), `${'x'.repeat(300)}...`],
])('registryWords() of %s are "%s"', (body, words) => {
  expect(registryWords(Buffer.from(body))).toBe(words);
});

test('networkError() keeps what is known already, and finds the code of a cause', () => {
  const known = failureAt(PLACE, 'not found', 'gone');
  const cause = Object.assign(new Error('x'), { code: 'ECONNRESET' });

  expect(networkError(PLACE, known)).toBe(known);
  expect(networkError(PLACE, new Error('fetch failed', { cause }))).toMatchObject({
    kind: 'unavailable',
    canRetry: true,
  });
  expect(networkError(PLACE, new Error('odd\nthing')).message).toBe(
    'registry "registry.test": resolve app:1: odd thing (odd thing)',
  );
});

test('delayMs() grows, varies, has an end, and is never less than what was asked for', () => {
  const policy = { attemptsMax: 9, delayMsMin: 100, delayMsMax: 1000 };

  for (let attempt = 1; attempt < 40; attempt += 1) {
    const limit = Math.min(1000, 100 * 2 ** (attempt - 1));
    const delay = delayMs(policy, attempt, 0);
    expect(delay).toBeGreaterThanOrEqual(limit / 2);
    expect(delay).toBeLessThanOrEqual(limit);
  }
  expect(delayMs(policy, 1, 5000)).toBe(5000);
});

test('withRetries() tries again only what may change, and so often', async () => {
  const policy = { attemptsMax: 3, delayMsMin: 1, delayMsMax: 1 };
  const attempts = async (canRetry: boolean) => {
    let count = 0;
    const body = async () => {
      count += 1;
      throw failureAt(PLACE, 'unavailable', 'broken', { canRetry });
    };
    await expect(withRetries(policy, body, NEVER)).rejects.toThrow('broken');
    return count;
  };

  expect([await attempts(true), await attempts(false)]).toEqual([3, 1]);
});

test('withRetries() ends with its signal', async () => {
  const stop = new AbortController();
  const body = async () => {
    stop.abort(new Error('enough'));
    throw failureAt(PLACE, 'unavailable', 'broken', { canRetry: true, retryAfterMs: 60_000 });
  };

  await expect(withRetries({ attemptsMax: 3, delayMsMin: 1, delayMsMax: 1 }, body, stop.signal)).rejects.toThrow(
    'enough',
  );
});
