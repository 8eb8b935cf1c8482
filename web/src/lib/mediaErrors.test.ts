import { describe, expect, it } from 'vitest';
import { capturePossible, mediaProblem, previewProblems, publishProblem, shareProblem } from './mediaErrors';

const named = (name: string, message = '') => new DOMException(message, name);

describe('mediaProblem', () => {
  it('says how to allow a denied camera', () => {
    const problem = mediaProblem(named('NotAllowedError', 'Permission denied'), 'camera');
    expect(problem.title).toContain('camera');
    expect(problem.help).toContain('allow the camera');
  });

  it('tells a refusal of the system from one of the person', () => {
    const problem = mediaProblem(named('NotAllowedError', 'Permission denied by system'), 'camera');
    expect(problem.help).toContain('privacy settings');
  });

  it.each([
    ['NotFoundError', 'No microphone found'],
    ['NotReadableError', 'Your microphone is in use'],
    ['TypeError', 'Your microphone did not start'],
  ])('puts %s into words', (name, title) => {
    expect(mediaProblem(named(name), 'microphone').title).toBe(title);
  });

  it('never shows the name of an error', () => {
    for (const name of ['NotAllowedError', 'NotFoundError', 'AbortError', 'UnknownError']) {
      const { title, help } = mediaProblem(named(name), 'camera');
      expect(title + help).not.toContain('Error');
    }
  });
});

describe('previewProblems', () => {
  it('tells one cause once', () => {
    const denied = named('NotAllowedError');
    const [only, ...rest] = previewProblems(denied, named('NotAllowedError'));
    expect(only?.[0].title).toContain('camera and microphone');
    expect(only?.[1]).toEqual(['camera', 'microphone']);
    expect(rest).toEqual([]);
  });

  it('keeps two causes apart and is silent without any', () => {
    const two = previewProblems(named('NotAllowedError'), named('NotFoundError'));
    expect(two.map(([, devices]) => devices)).toEqual([['camera'], ['microphone']]);
    expect(previewProblems(undefined, undefined)).toEqual([]);
  });
});

describe('publishProblem', () => {
  it('blames the device only for faults of the device', () => {
    expect(publishProblem(named('NotReadableError'), 'camera').title).toContain('in use');
    expect(publishProblem(new Error('timed out'), 'camera').title).toContain('not reach');
  });
});

describe('capturePossible', () => {
  it('names the server option on a plain http address', () => {
    expect(capturePossible(false, false)?.help).toContain('sluice up --tls self-signed');
  });

  it('has nothing to say on a page that may ask', () => {
    expect(capturePossible(true, true)).toBeUndefined();
    expect(capturePossible(true, false)?.title).toContain('browser');
  });
});

describe('shareProblem', () => {
  it('is silent when the person closed the chooser', () => {
    expect(shareProblem(named('NotAllowedError', 'Permission denied'))).toBeUndefined();
  });

  it('explains a system that forbids it', () => {
    expect(shareProblem(named('NotAllowedError', 'Permission denied by system'))).toBeDefined();
    expect(shareProblem(named('NotReadableError'))).toBeDefined();
  });
});
