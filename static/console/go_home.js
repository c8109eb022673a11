setTimeout(() => location.replace("/"), 900);
