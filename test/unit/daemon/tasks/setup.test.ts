import { shimSocketDirectory } from '../../../../daemon/tasks/setup';

describe('shimSocketDirectory()', () => {
  const socketPath = (state: string) => `${shimSocketDirectory(state)}/${'0'.repeat(32)}`;

  test('is below the state directory', () => {
    expect(shimSocketDirectory('/run/gantryd')).toBe('/run/gantryd/s');
  });

  test.each([60, 71, 72, 200])('keeps socket paths short enough with a state directory of %i characters', (length) => {
    expect(socketPath(`/${'x'.repeat(length - 1)}`).length).toBeLessThanOrEqual(106);
  });
});
