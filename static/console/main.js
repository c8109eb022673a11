// The console: starts every part of the page, then the live connection.
import { startChat } from "./chat.js";
import { startLog } from "./log.js";
import { startMachine } from "./machine.js";
import { startMesh } from "./mesh.js";
import { startModels } from "./models.js";
import { startNav } from "./nav.js";
import { startRequests } from "./requests.js";
import { startSnippets } from "./snippets.js";
import { live } from "./socket.js";
import { startStatus } from "./status.js";
import { startTheme } from "./theme.js";
import { startTimeline } from "./timeline.js";

startTheme();
startStatus();
startMesh();
startModels();
startTimeline();
startLog();
startSnippets();
startRequests();
startMachine();
startChat();
startNav();
live.start();
