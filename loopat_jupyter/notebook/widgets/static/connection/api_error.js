/**
 * A failed request, with a code for programs and a sentence for people.
 *
 * The codes are the Loop API's, and three of our own: `unreachable` (no response), `not_here` (a
 * response that is not of the Loop API), `no_kernel` (the kernel did not respond).
 */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter?: number}} [more] `retryAfter` in seconds
   */
  constructor(code, message, { status = 0, retryAfter } = {}) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }

  /** Whether the same request may succeed later by itself. */
  get retryable() {
    return this.code === "unreachable" || this.status === 429 || this.status >= 500;
  }
}

/**
 * The error of a response.
 * @param {Response} response one that is no success
 * @returns {Promise<ApiError>}
 */
export async function errorFromResponse(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? Number.NaN);
  const more = {
    status: response.status,
    retryAfter: Number.isFinite(seconds) ? seconds : undefined,
  };
  const error = (await response.json().catch(() => null))?.error;
  if (typeof error?.code === "string") {
    return new ApiError(error.code, String(error.message ?? error.code), more);
  }
  const message = `The server answered with status ${response.status} and not as a Loop API.`;
  return new ApiError("not_here", message, more);
}
