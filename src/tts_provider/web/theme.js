// Before the first paint, so that the page does not flash in the other theme.
(() => {
  const name = 'tts-provider.theme';
  let kept = null;
  try {
    kept = localStorage.getItem(name);
  } catch {
    // Storage is switched off: the theme is the system's.
  }
  if (kept === 'light' || kept === 'dark') document.documentElement.dataset.theme = kept;

  document.addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    const system = matchMedia('(prefers-color-scheme: dark)');
    const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
    const show = () => {
      button.title = isDark() ? 'Use the light theme' : 'Use the dark theme';
      button.setAttribute('aria-label', button.title);
      document.dispatchEvent(new Event('themechange'));
    };
    button.addEventListener('click', () => {
      const chosen = isDark() ? 'light' : 'dark';
      document.documentElement.dataset.theme = chosen;
      try {
        localStorage.setItem(name, chosen);
      } catch {
        // It lasts as long as the page.
      }
      show();
    });
    system.addEventListener('change', show);
    show();
  });
})();
