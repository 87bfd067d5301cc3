/**
 * Why something did not happen, as one error: a code for programs, a sentence for people.
 *
 * The codes are the Loop API's, and three of our own: `unreachable` (no answer at all),
 * `not_here` (something answered that has no Loop API), `no_kernel` (the kernel did not answer).
 */
export class Refusal extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter?: number}} [more] `retryAfter` in seconds
   */
  constructor(code, message, { status = 0, retryAfter } = {}) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later without anybody doing anything. */
  get passing() {
    return this.code === "unreachable" || this.status === 429 || this.status >= 500;
  }
}

/**
 * The refusal that a response stands for.
 * @param {Response} response one that is no success
 * @returns {Promise<Refusal>}
 */
export async function refusalOf(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  const more = {
    status: response.status,
    retryAfter: Number.isFinite(seconds) ? seconds : undefined,
  };
  const error = (await response.json().catch(() => null))?.error;
  if (typeof error?.code === "string") {
    return new Refusal(error.code, String(error.message ?? error.code), more);
  }
  const said = `The server answered with status ${response.status} and not as a Loop API.`;
  return new Refusal("not_here", said, more);
}
