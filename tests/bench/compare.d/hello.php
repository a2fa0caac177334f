<?php // A page as small as pages get; with ?ms=2 the worker is busy for that long first.
if (isset($_GET['ms'])) {
    usleep(1000 * (int) $_GET['ms']);
}
header('Content-Type: text/plain');
echo str_repeat('hello from php-fpm ', 50);
