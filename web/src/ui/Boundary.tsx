import { Component, type ReactNode } from 'react';
import { texts } from '../texts';

/** A fault of the page itself ends in words and a way out, never in a blank window. */
export class Boundary extends Component<{ children: ReactNode }, { broken: boolean }> {
  override state = { broken: false };

  static getDerivedStateFromError() {
    return { broken: true };
  }

  override render() {
    if (!this.state.broken) return this.props.children;
    return (
      <main className="page">
        <div className="card" role="alert">
          <h1>{texts.pageBroke.title}</h1>
          <p>{texts.pageBroke.help}</p>
          <button type="button" className="button primary wide" onClick={() => location.reload()}>
            {texts.pageBroke.reload}
          </button>
        </div>
      </main>
    );
  }
}
