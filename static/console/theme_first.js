// Runs before the first paint, so that a chosen theme does not flash. Kept tiny; theme.js does the rest.
try {
  const theme = localStorage.getItem("mesh-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* storage may be forbidden: the system's theme it is */ }
