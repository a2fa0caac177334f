<?php
header('Content-Type: text/plain');
echo 'Hello from php-fpm worker ', getmypid(), ', PHP ', PHP_VERSION, ': ',
    $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['REQUEST_URI'], ', ',
    strlen(file_get_contents('php://input')), " bytes of body read\n";
