#!/usr/bin/perl
# perl FCGI, and as a CGI program what fcgiwrap runs; see README.md. Argument: the number of processes.
use strict;
use warnings;
use Digest::SHA;
use Time::HiRes qw(sleep time);

my $application = 'fcgiwrap';
my %query;
my ($flush, $failed);

if ($ENV{GATEWAY_INTERFACE} || $ENV{REQUEST_METHOD}) {
    # As a CGI program.
    binmode STDIN;
    binmode STDOUT;
    $flush = sub { STDOUT->flush };
    $SIG{PIPE} = sub { $failed = 'SIGPIPE' };
    $SIG{TERM} = sub { note('ended by SIGTERM'); exit 1 };
    require IO::Handle;
    serve();
    exit 0;
}

require FCGI;
$application = 'perl';
# The first process only waits for its end, which is everybody's.
if ((my $workers = $ARGV[0] // 1) > 1) {
    my @workers = map { fork() // die "fork: $!" or work() } 1 .. $workers;
    local $SIG{TERM} = sub { kill 'TERM', @workers; exit 0 };
    sleep 3600 while 1;
}
work();

sub work {
    $SIG{TERM} = 'DEFAULT';
    my $request = FCGI::Request();
    $flush = sub { $request->Flush() };
    serve() while $request->Accept() >= 0;
    exit 0;
}

sub serve {
    %query = map { my ($name, $value) = split /=/, $_, 2; ($name => $value // '') } split /&/, $ENV{QUERY_STRING} // '';
    $failed = undef;
    sleep($query{sleep} / 1000) if $query{sleep};
    if (exists $query{size}) { size() }
    elsif (exists $query{stream}) { stream() }
    elsif (exists $query{upload}) { my ($length, $sum) = digest(); head(); print "$length $sum\n" }
    elsif (exists $query{early}) { head(); print "early\n" }
    elsif (exists $query{stderr}) { print STDERR "$query{stderr}\n"; head(); print "stderr\n" }
    elsif (exists $query{watch}) { watch() }
    else { echo() }
}

sub head {
    my (@more) = @_;
    my $token = $query{token} // '';
    my $method = $ENV{REQUEST_METHOD} // '';
    my $lines = join '', map { "$_\r\n" } @more;
    print "Content-Type: text/plain\r\nX-Token: $token\r\nX-Method: $method\r\nX-Application: $application\r\n$lines\r\n";
}

sub digest {
    my $sha = Digest::SHA->new(256);
    my $length = 0;
    # FCGI's read gives less than was asked for only at the end, or when it broke.
    while ((my $count = read(STDIN, my $bytes, 65536)) > 0) {
        $sha->add($bytes);
        $length += $count;
    }
    return ($length, $sha->hexdigest);
}

sub echo {
    my ($length, $sum) = digest();
    head("X-Length: $length", "X-Sha256: $sum");
    if (exists $query{n}) {
        print substr "$query{token} " x (1 + $query{n} / (1 + length $query{token})), 0, $query{n};
        return;
    }
    print "$_=", $ENV{$_} // '', "\n" for qw(REQUEST_METHOD QUERY_STRING CONTENT_TYPE HTTP_X_TEST X_PARAM);
    my $long = $ENV{X_LONG} // '';
    print 'X_LONG=', length $long, ' ', Digest::SHA::sha256_hex($long), "\n";
}

sub size {
    my ($left, $line) = ($query{size}, ($query{seed} // 0) * 1_000_000);
    head();
    for (; $left > 0; $left -= 65536, $line++) {
        my $block = sprintf("%015d\n", $line) x 4096;
        print $left < 65536 ? substr $block, 0, $left : $block or return;
    }
}

sub stream {
    head();
    for my $i (0 .. $query{stream} - 1) {
        sleep(($query{pause} // 0) / 1000) if $i;
        print "chunk $i\n";
        $flush->();
    }
}

sub watch {
    note('start');
    if ($query{watch} eq 'read') {
        my ($length) = digest();
        # Only the length tells a whole body from a broken one.
        note($length == ($ENV{CONTENT_LENGTH} || 0) ? 'read whole' : "read failed: $length bytes");
        head();
        print "read\n";
        return;
    }
    head();
    for (my $end = time + $query{ms} / 1000; time < $end; sleep 0.02) {
        my $written = print "watch\n";
        $flush->();
        if (!$written || $failed) {
            note('write failed: ' . ($failed // $!));
            return;
        }
    }
    note('write whole');
}

sub note {
    open my $file, '>>', $query{log} // '/dev/null' or return;
    print $file $query{token} // '', " $_[0]\n";
    close $file;
}
