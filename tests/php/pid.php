<?php
// Which worker served. Query: token.
header('Content-Type: text/plain');
header('X-Token: ' . ($_GET['token'] ?? 'none'));
echo getmypid();
