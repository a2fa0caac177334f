<?php
header('Content-Type: text/plain');
echo 'PHP ', PHP_VERSION, " through fcgimux\n";
