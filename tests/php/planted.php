<?php
// Must never run: a request for it is planted inside the body of another.
require __DIR__ . '/side_effects.inc';
side_effect('PLANTED ' . ($_SERVER['QUERY_STRING'] ?? ''));
echo "PLANTED\n";
