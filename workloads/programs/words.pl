# Makes a text of made-up words, counts words and pairs of words, substitutes, sorts, reports.
use strict;
use warnings;

my $seed = 1;

# Park and Miller's generator: the same numbers with every version of Perl.
sub number {
    $seed = ($seed * 16807) % 2147483647;
    return $seed % $_[0];
}

my @syllables = qw(ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo zu);
my @words = map { join '', map { $syllables[number(20)] } 1 .. 1 + number(4) } 1 .. 6000;
my (%count, %pairs, @lines);
for my $line (1 .. 12000) {
    my @line = map { $words[number(scalar @words) * number(1000) / 1000] } 1 .. 4 + number(12);
    my $text = join ' ', @line;
    $text =~ s/(\w+)qui(\w*)/\u$1-$2/g;
    push @lines, $text;
}
for my $text (@lines) {
    my $last = '';
    for my $word (split /[\s-]+/, lc $text) {
        $count{$word}++;
        $pairs{"$last $word"}++ if $last ne '';
        $last = $word;
    }
}
my $checksum = 0;
for my $pair (sort { $pairs{$b} <=> $pairs{$a} || $a cmp $b } keys %pairs) {
    $checksum = ($checksum * 31 + $pairs{$pair} + length $pair) % 1000000007;
}
my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%s %d\n", $_, $count{$_} for @sorted[0 .. 99];
printf "%d lines, %d words, %d pairs, %d\n", scalar @lines, scalar @sorted, scalar keys %pairs,
    $checksum;
